"""Connections to Postgres: one pool a process, every transaction with a limit on how long it may wait."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from sqlalchemy import Engine, create_engine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection


def make_engine(
    url: str, *, pool_size: int = 5, statement_timeout_s: int | None = 60, idle_timeout_s: float = 120.0
) -> Engine:
    """Open a pool of connections; nothing is sent until the first use.

    Args:
        url: `postgresql+psycopg://...`; TLS settings (`sslmode`, `sslrootcert`) pass through.
        pool_size: connections kept open, one for each thread that talks to Postgres.
        statement_timeout_s: a statement that takes longer is ended by the server; None for no limit.
        idle_timeout_s: a transaction in which nothing happens for longer is ended by the server, so that a
            frozen process does not keep its rows locked.
    """
    timeouts = f"-c lock_timeout=30s -c idle_in_transaction_session_timeout={round(1000 * idle_timeout_s)}ms"
    if statement_timeout_s is not None:
        timeouts += f" -c statement_timeout={statement_timeout_s}s"
    return create_engine(
        url,
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_pre_ping=True,
        # Parameters are students' answers: no error message may carry them into a log.
        hide_parameters=True,
        connect_args={"options": timeouts, "connect_timeout": 10, "application_name": "scorefold"},
    )


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """One transaction: committed at the end of the block, rolled back by an exception."""
    with engine.begin() as connection:
        yield connection
