"""What happens once a night, however many beats tick: the ledger is audited against the scores."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from db import runs
from workers.telemetry import get_logger

if TYPE_CHECKING:
    from sqlalchemy import Engine as Database

log = get_logger("nightly")


def run_nightly(database: Database, *, period: str | None = None) -> bool:
    """Audit the ledger for one period, once; returns whether this call was the one that ran.

    Args:
        database: the ledger.
        period: the day as YYYY-MM-DD; today in UTC by default.
    """
    period = period or datetime.now(UTC).date().isoformat()
    with database.begin() as connection:
        if not runs.begin(connection, kind="nightly", period=period):
            return False
    with database.begin() as connection:
        audit = runs.audit_ledger(connection)
        runs.end(connection, kind="nightly", period=period, report=audit)
    log.info("nightly_done", period=period, **audit)
    return True
