"""The morning's page: what the night did, for an operator to look at and a psychometrician to judge by."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import text

from scoring.errors import InvalidInputError
from workers.policies import find_policy
from workers.replacing import replaced
from workers.report.agreement import agreement
from workers.report.arrivals import arrivals
from workers.report.merging import distances, merges_page, proposals
from workers.report.page import Page
from workers.report.reading import condition_codes, read_queue
from workers.report.rendering import render
from workers.report.spread import spread
from workers.writer import database_errors

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine as Database

    from scoring.evaluation.policy import Policy
    from workers.settings import Settings

#: Always the newest page, so that a bookmark stays good.
LATEST = "latest.html"


def write_report(database: Database, settings: Settings, *, out: Path | None = None) -> Path:
    """Write the morning's page.

    Args:
        database: the ledger; everything on the page is from one moment.
        settings: the policy of the home folder, and the folder of reports.
        out: the file; by default one of the day's name in the folder of reports, and `latest.html` beside it.

    Raises:
        InvalidInputError: the file cannot be written, or the policy has no meaning.
        DatabaseUnavailableError: Postgres does not answer.
    """
    page, folder = morning_page(database, find_policy(settings)), settings.report_folder()
    if out is not None:
        return _write(page, out)
    return _write(page, folder / f"morning-{page.made_at:%Y-%m-%d}.html", folder / LATEST)


def write_merges_report(database: Database, settings: Settings, *, out: Path | None = None) -> Path:
    """Write distances, proposals and evidence as a page of their own.

    Args:
        database: the ledger.
        settings: the folder of reports.
        out: the file; by default one of the day's name in the folder of reports.

    Raises:
        InvalidInputError: the file cannot be written.
        DatabaseUnavailableError: Postgres does not answer.
    """
    page = merges_page(database)
    return _write(page, out or settings.report_folder() / f"merges-{page.made_at:%Y-%m-%d}.html")


def _write(page: Page, *paths: Path) -> Path:
    """The same page to each of the paths; the first of them."""
    html = render(page)
    for path in paths:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidInputError(f"{path}: cannot be written: {error.strerror}") from error
        with replaced(path) as stream:
            stream.write(html)
    return paths[0]


def morning_page(database: Database, policy: Policy) -> Page:
    """Everything that the page tells, read in one transaction that changes nothing."""
    with database_errors(), database.connect() as connection:
        connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
        shares, drift = spread(connection, policy)
        parts = (
            arrivals(connection),
            agreement(connection, policy),
            shares,
            condition_codes(connection),
            read_queue(connection),
            drift,
            distances(connection),
            proposals(connection),
        )
    return Page("scorefold: the morning's page", datetime.now(UTC), parts)
