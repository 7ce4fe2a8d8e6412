"""The morning by itself: reads are drawn behind the machine, then the page is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from db import reading, runs
from workers.periods import current_period
from workers.report.morning import write_report
from workers.telemetry import get_logger
from workers.writer import database_errors

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine as Database

    from workers.settings import Settings

log = get_logger("morning")

MORNING = "morning"
_ACTOR = "nightly"


def run_morning(database: Database, settings: Settings, *, period: str | None = None) -> Path:
    """Draw the night's reads and write the page; run again, it draws only among answers that are new.

    Args:
        database: the ledger.
        settings: share and seed of the reads, the folder of the page.
        period: the night as YYYY-MM-DD; the last one that began by default.

    Raises:
        InvalidInputError: the page cannot be written.
        DatabaseUnavailableError: Postgres does not answer.
    """
    period = period or current_period(settings.night)
    with database_errors(), database.begin() as connection:
        runs.begin_again(connection, kind=MORNING, period=period)
        num_drawn = reading.draw_read_behind(
            connection, share=settings.reads.share, seed=settings.reads.seed, actor=_ACTOR
        )
        num_apart = reading.ask_about_disagreements(connection, actor=_ACTOR)
    path = write_report(database, settings)
    done = {"file": path.name, "num_drawn": num_drawn, "num_disagreements": num_apart}
    with database_errors(), database.begin() as connection:
        runs.end(connection, kind=MORNING, period=period, report=done)
    log.info("page_written", period=period, **done)
    return path
