"""Retention: each source's answers are kept as long as a person wrote down, and no longer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from db import privacy
from workers.importers.sources import load_source, source_names
from workers.telemetry import get_logger
from workers.writer import database_errors

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine as Database

log = get_logger("privacy")


def retain(database: Database, sources: Path, *, actor: str, dry_run: bool = False) -> dict[str, int]:
    """Erase what is older than its source's `keep_days`, a handful of rows a transaction.

    Returns:
        How many answers of each source with a policy were erased, or would be.

    Raises:
        InvalidInputError: the file of sources cannot be read.
        DatabaseUnavailableError: Postgres does not answer; what was erased so far stays erased.
    """
    num_erased: dict[str, int] = {}
    for name in source_names(sources):
        keep_days = load_source(sources, name).keep_days
        if keep_days is not None:
            num_erased[name] = (
                _num_expired(database, name, keep_days)
                if dry_run
                else _expire(database, name, keep_days, actor=actor)
            )
            log.info(
                "retained", source=name, keep_days=keep_days, num_erased=num_erased[name], dry_run=dry_run
            )
    return num_erased


def _expire(database: Database, source: str, keep_days: int, *, actor: str) -> int:
    num_erased = 0
    while True:
        with database_errors(), database.begin() as connection:
            erasure = privacy.expire(connection, source=source, keep_days=keep_days, actor=actor)
        num_erased += erasure.num_submissions
        if not erasure.num_submissions:
            return num_erased


def _num_expired(database: Database, source: str, keep_days: int) -> int:
    with database_errors(), database.connect() as connection:
        return privacy.num_expired(connection, source=source, keep_days=keep_days)
