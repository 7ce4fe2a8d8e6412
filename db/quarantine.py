"""What could not be scored or read, with its reason: kept, shown, tried again, closed.

Two kinds of case: a submission that failed too often, and bytes at a door that are no event. Nothing is
deleted: a closed case stays with who closed it and how, its bytes erased.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Connection


@dataclass(frozen=True, slots=True)
class Refusal:
    """Bytes that a door could not take, and why; `origin` makes a redelivery of the same bytes one case."""

    door: str
    reason: str
    detail: str
    payload: bytes
    origin: str | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """One row of quarantine; `payload` is None for a submission, whose answer stands in the ledger."""

    quarantine_id: int
    door: str
    reason: str
    detail: str
    quarantined_at: datetime
    submission_id: int | None = None
    source: str | None = None
    response_id: str | None = None
    attempt: int | None = None
    item_id: str | None = None
    payload: bytes | None = None
    resolved_at: datetime | None = None
    resolution: str | None = None


_CASES = """
SELECT q.quarantine_id, q.door, q.reason, q.detail, q.quarantined_at, q.submission_id, s.source,
       s.response_id, s.attempt, s.item_id, q.payload, q.resolved_at, q.resolution
FROM ingest.quarantine q LEFT JOIN ingest.submission s USING (submission_id)
WHERE (CAST(:ids AS bigint[]) IS NULL OR q.quarantine_id = ANY(CAST(:ids AS bigint[])))
  AND (CAST(:door AS text) IS NULL OR q.door = :door)
  AND (CAST(:reason AS text) IS NULL OR q.reason = :reason)
  AND (:closed_too OR q.resolved_at IS NULL)
ORDER BY q.quarantine_id LIMIT :max_rows
"""

_RELEASE = """
WITH closed AS (
    UPDATE ingest.quarantine SET resolved_at = now(), resolution = :resolution
    WHERE quarantine_id = ANY(CAST(:ids AS bigint[])) AND resolved_at IS NULL AND submission_id IS NOT NULL
    RETURNING submission_id
)
UPDATE ingest.work w
SET state = 'ready', num_attempts = 0, num_solo_attempts = 0, ready_at = now(), dispatched_at = NULL,
    finished_at = NULL
FROM closed WHERE w.submission_id = closed.submission_id AND w.state = 'quarantined'
RETURNING w.submission_id
"""


def keep(connection: Connection, refusals: Sequence[Refusal]) -> int:
    """Put bytes into quarantine; returns how many were not there already."""
    num_new = 0
    for refusal in refusals:
        added = connection.execute(
            text("""
                INSERT INTO ingest.quarantine (door, reason, detail, payload, origin)
                VALUES (:door, :reason, :detail, :payload, :origin)
                ON CONFLICT (origin) WHERE origin IS NOT NULL DO NOTHING RETURNING 1
            """),
            {
                "door": refusal.door,
                "reason": refusal.reason,
                "detail": refusal.detail,
                "payload": refusal.payload,
                "origin": refusal.origin,
            },
        )
        num_new += added.first() is not None
    return num_new


def cases(
    connection: Connection,
    *,
    ids: Sequence[int] | None = None,
    door: str | None = None,
    reason: str | None = None,
    closed_too: bool = False,
    max_rows: int = 100,
) -> list[Case]:
    """Cases in the order of their numbers, open ones unless `closed_too`."""
    rows = connection.execute(
        text(_CASES),
        {
            "ids": None if ids is None else list(ids),
            "door": door,
            "reason": reason,
            "closed_too": closed_too,
            "max_rows": max_rows,
        },
    )
    return [Case(**row._mapping) for row in rows]


def release(connection: Connection, ids: Sequence[int], *, actor: str) -> int:
    """Let submissions be scored again, as if for the first time; closes their cases.

    Returns:
        How many submissions wait again.
    """
    released = connection.execute(text(_RELEASE), {"ids": list(ids), "resolution": f"retried by {actor}"})
    return len(released.all())


def close(connection: Connection, ids: Sequence[int], *, resolution: str) -> int:
    """Close cases and erase their bytes; a submission stays unscored. Returns how many were open."""
    closed = connection.execute(
        text("""
            UPDATE ingest.quarantine
            SET resolved_at = now(), resolution = :resolution,
                payload = CASE WHEN payload IS NULL THEN NULL ELSE ''::bytea END
            WHERE quarantine_id = ANY(CAST(:ids AS bigint[])) AND resolved_at IS NULL RETURNING 1
        """),
        {"ids": list(ids), "resolution": resolution},
    )
    return len(closed.all())


def restate(connection: Connection, quarantine_id: int, *, reason: str, detail: str) -> None:
    """Give an open case the reason for which it was refused again."""
    connection.execute(
        text("""
            UPDATE ingest.quarantine SET reason = :reason, detail = :detail
            WHERE quarantine_id = :id AND resolved_at IS NULL
        """),
        {"id": quarantine_id, "reason": reason, "detail": detail},
    )
