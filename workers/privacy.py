"""Retention: each source's answers are kept as long as a person wrote down, and no longer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from db import privacy
from workers.importers.sources import load_source, source_names
from workers.telemetry import get_logger
from workers.writer import database_errors

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine as Database

log = get_logger("privacy")


@dataclass(frozen=True, slots=True)
class Retained:
    """What of one source was erased, or would be."""

    num_answers: int
    #: Cases of quarantine with bytes of the source.
    num_cases: int


def retain(database: Database, sources: Path, *, actor: str, dry_run: bool = False) -> dict[str, Retained]:
    """Erase what is older than its source's `keep_days`, a handful of rows a transaction.

    Returns:
        How much of each source with a policy was erased, or would be.

    Raises:
        InvalidInputError: the file of sources cannot be read.
        DatabaseUnavailableError: Postgres does not answer; what was erased so far stays erased.
    """
    erased: dict[str, Retained] = {}
    for name in source_names(sources):
        keep_days = load_source(sources, name).keep_days
        if keep_days is not None:
            erased[name] = (
                _count(database, name, keep_days)
                if dry_run
                else _expire(database, name, keep_days, actor=actor)
            )
            log.info(
                "retained",
                source=name,
                keep_days=keep_days,
                num_erased=erased[name].num_answers,
                num_cases=erased[name].num_cases,
                dry_run=dry_run,
            )
    return erased


def _expire(database: Database, source: str, keep_days: int, *, actor: str) -> Retained:
    num_answers = 0
    while True:
        with database_errors(), database.begin() as connection:
            erasure = privacy.expire(connection, source=source, keep_days=keep_days, actor=actor)
        num_answers += erasure.num_submissions
        if not erasure.num_submissions:
            break
    with database_errors(), database.begin() as connection:
        num_cases = privacy.expire_cases(connection, source=source, keep_days=keep_days, actor=actor)
    return Retained(num_answers, num_cases)


def _count(database: Database, source: str, keep_days: int) -> Retained:
    with database_errors(), database.connect() as connection:
        return Retained(
            privacy.num_expired(connection, source=source, keep_days=keep_days),
            privacy.num_expired_cases(connection, source=source, keep_days=keep_days),
        )
