"""Scores on their way out: all that count now, or those that changed since the last time.

The cursor is a transaction number, not a time: a score that was written before the last export and committed
after it still comes. A row may come twice, none is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

COLUMNS = (
    *("source", "response_id", "attempt", "item_id", "trait", "level", "condition_code", "given_by"),
    *("confidence", "scorer_id", "rater", "changed_at"),
)


class CursorError(Exception):
    """A cursor does not fit this database; the message says why."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which scores go out."""

    source: str | None = None
    item_id: str | None = None
    batch_id: int | None = None
    #: What an earlier export returned as its cursor; None for everything.
    since: int | None = None
    #: Whether the real ids of students go out with their scores; needs the right to read schema pii.
    with_students: bool = False


#: A row's transaction number has 32 bits: the higher ones are those of now, or of the round before.
_FULL_XID = """
    (SELECT CASE WHEN x.low > x.top & 4294967295 THEN (x.top >> 32) - 1 ELSE x.top >> 32 END * 4294967296
            + x.low
     FROM (SELECT {row}.xmin::text::bigint AS low,
                  pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS top) x)
"""

_CHANGED = f"""
    AND (s.submission_id, s.trait) IN (
        SELECT m.submission_id, m.trait FROM score.machine_score m WHERE {_FULL_XID.format(row="m")} >= :since
        UNION
        SELECT h.submission_id, h.trait FROM score.human_score h WHERE {_FULL_XID.format(row="h")} >= :since)
"""


def cursor(connection: Connection) -> int:
    """The cursor for the next export: take it first, in the transaction that then reads the scores."""
    found = connection.execute(text("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint"))
    return int(found.scalar_one())


def check_cursor(connection: Connection, since: int) -> None:
    """Make sure that a cursor can be from this database.

    Raises:
        CursorError: it lies in the future.
    """
    top = connection.execute(text("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint"))
    if since > int(top.scalar_one()):
        raise CursorError("the cursor is not from this database: export everything once")


def outgoing_scores(connection: Connection, wanted: Wanted) -> Iterator[dict[str, Any]]:
    """Stream the scores that count, in the order of submission; `student_id` first where it was asked for."""
    columns = ", ".join(f"s.{name}" for name in COLUMNS)
    student = "p.source_student_id AS student_id, " if wanted.with_students else ""
    join = "LEFT JOIN pii.student p USING (student_key)" if wanted.with_students else ""
    changed = "" if wanted.since is None else _CHANGED
    rows = connection.execute(
        text(f"""
            SELECT {student}{columns} FROM grader.scores s {join}
            WHERE (CAST(:source AS text) IS NULL OR s.source = :source)
              AND (CAST(:item_id AS text) IS NULL OR s.item_id = :item_id)
              AND (CAST(:batch_id AS bigint) IS NULL OR s.batch_id = :batch_id)
              {changed}
            ORDER BY s.submission_id, s.trait
        """),
        {
            "source": wanted.source,
            "item_id": wanted.item_id,
            "batch_id": wanted.batch_id,
            "since": wanted.since,
        },
        execution_options={"yield_per": 2000},
    )
    for row in rows:
        yield dict(row._mapping)
