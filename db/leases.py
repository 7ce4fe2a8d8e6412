"""The lease on a run's row: prolonged, kept for a transaction, given up, by whoever holds its token.

Every kind of run keeps the columns `token`, `lease_until`, `num_attempts` and `state` in a table of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy import Connection


class LeaseLostError(Exception):
    """The run belongs to another process by now, or has been concluded."""


@dataclass(frozen=True, slots=True)
class RunLease:
    """What proves that a run is ours; `table` and `key` are names from this code only."""

    what: str
    table: str
    key: str
    number: int
    token: UUID

    def lost(self) -> LeaseLostError:
        """The error to raise once the lease is gone."""
        return LeaseLostError(f"{self.what} {self.number} belongs to another process")


def renew(connection: Connection, lease: RunLease, *, lease_s: float) -> bool:
    """Prolong a lease; False when the run is no longer ours."""
    renewed = connection.execute(
        text(f"""
            UPDATE {lease.table} SET lease_until = now() + make_interval(secs => :lease_s)
            WHERE {lease.key} = :run AND token = :token AND state = 'running' RETURNING 1
        """),
        {"run": lease.number, "token": lease.token, "lease_s": lease_s},
    )
    return renewed.first() is not None


def release(connection: Connection, lease: RunLease, *, as_if_untried: bool = False) -> None:
    """End a lease now, so that the run can be taken up again at once; its attempt counts or does not."""
    if renew(connection, lease, lease_s=-1.0) and as_if_untried:
        connection.execute(
            text(f"UPDATE {lease.table} SET num_attempts = num_attempts - 1 WHERE {lease.key} = :run"),
            {"run": lease.number},
        )


def hold(connection: Connection, lease: RunLease) -> None:
    """Keep a run's row for the rest of the transaction.

    Raises:
        LeaseLostError: it is no longer ours.
    """
    held = connection.execute(
        text(f"""
            SELECT 1 FROM {lease.table}
            WHERE {lease.key} = :run AND token = :token AND state = 'running' FOR UPDATE
        """),
        {"run": lease.number, "token": lease.token},
    )
    if held.first() is None:
        raise lease.lost()
