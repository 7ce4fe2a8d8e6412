"""A run's lease beside the work that it covers: renewed while that goes on, given up when it breaks off."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from db import leases
from scoring.errors import DatabaseUnavailableError, StoreUnavailableError
from workers.housekeeping import Rounds
from workers.telemetry import get_logger
from workers.writer import database_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Engine as Database

    from db.leases import RunLease

log = get_logger("holding")

#: What breaks a run off without its fault: a server that is away, or word to stop.
_BLAMELESS = (DatabaseUnavailableError, StoreUnavailableError, KeyboardInterrupt, SystemExit)


@contextmanager
def held(database: Database, lease: RunLease, *, lease_s: float) -> Iterator[Callable[[], None]]:
    """Renew the lease beside the work; gives a check that raises `LeaseLostError` once it is lost."""
    lost = threading.Event()

    def renew() -> None:
        with database.begin() as connection:
            if not leases.renew(connection, lease, lease_s=lease_s):
                lost.set()

    def check() -> None:
        if lost.is_set():
            raise lease.lost()

    rounds = Rounds("run-lease", renew, interval_s=lease_s / 4)
    rounds.start()
    try:
        yield check
    finally:
        rounds.stop()


def let_go(database: Database, lease: RunLease, cause: BaseException) -> None:
    """Give the lease up for this cause; if Postgres is away it ends by itself.

    An outage or a stop does not count as an attempt, so that a night's outage fails no run.
    """
    try:
        with database_errors(), database.begin() as connection:
            leases.release(connection, lease, as_if_untried=isinstance(cause, _BLAMELESS))
    except DatabaseUnavailableError as error:
        log.warning("lease_left_to_end", run=lease.number, reason=str(error))
