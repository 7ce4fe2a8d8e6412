"""Scheduled runs, single by their primary key, and the audit that the nightly one makes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import JSONB

if TYPE_CHECKING:
    from sqlalchemy import Connection

#: Every table is read once: asked answer by answer, the same takes four times as long on a million.
_AUDIT = """
WITH rubric AS (
    SELECT item_id, count(*) AS num_traits FROM model.trait GROUP BY item_id
), scored AS (
    SELECT submission_id, scorer_id, count(*) AS num_traits FROM score.machine_score
    GROUP BY submission_id, scorer_id
), found AS (
    SELECT s.submission_id, bool_or(s.num_traits = r.num_traits) AS is_whole
    FROM scored s JOIN ingest.work w USING (submission_id) JOIN rubric r USING (item_id)
    GROUP BY s.submission_id
)
SELECT count(*) FILTER (WHERE w.state = 'done') AS num_done,
       count(*) FILTER (WHERE w.state = 'quarantined') AS num_quarantined,
       count(*) FILTER (WHERE w.state IN ('ready', 'leased')) AS num_waiting,
       count(*) FILTER (WHERE w.state = 'done' AND f.is_whole IS NOT TRUE) AS num_done_without_scores,
       count(*) FILTER (WHERE w.state <> 'done' AND f.submission_id IS NOT NULL) AS num_scored_but_not_done
FROM ingest.work w LEFT JOIN found f USING (submission_id)
"""


#: Something came to its end after the last page was begun, or there is no page of this period yet.
_MORNING_DUE = """
SELECT coalesce(
    (SELECT max(finished_at) FROM (
        SELECT finished_at FROM grader.batches ORDER BY received_at DESC LIMIT 10
     ) b) > max(started_at)
    OR (SELECT max(finished_at) FROM ops.run WHERE kind <> 'morning') > max(started_at), false)
    OR count(*) FILTER (WHERE period = :period) = 0
FROM ops.run WHERE kind = 'morning' AND state = 'done'
"""


def begin(connection: Connection, *, kind: str, period: str) -> bool:
    """Note that a run begins; False when this period has been, or is being, run."""
    added = connection.execute(
        text("""
            INSERT INTO ops.run (kind, period, state) VALUES (:kind, :period, 'running')
            ON CONFLICT DO NOTHING RETURNING 1
        """),
        {"kind": kind, "period": period},
    )
    return added.first() is not None


def is_done(connection: Connection, *, kind: str, period: str) -> bool:
    """Whether this period has been run to its end."""
    found = connection.execute(
        text("SELECT 1 FROM ops.run WHERE kind = :kind AND period = :period AND state = 'done'"),
        {"kind": kind, "period": period},
    )
    return found.first() is not None


def end(connection: Connection, *, kind: str, period: str, report: dict[str, Any]) -> None:
    """Note what a run found."""
    statement = text("""
        UPDATE ops.run SET state = 'done', report = :report, finished_at = now()
        WHERE kind = :kind AND period = :period
    """).bindparams(bindparam("report", type_=JSONB))
    connection.execute(statement, {"kind": kind, "period": period, "report": report})


def is_morning_due(connection: Connection, *, period: str) -> bool:
    """Whether the morning's page of this period is missing, or older than what has been settled since."""
    return bool(connection.execute(text(_MORNING_DUE), {"period": period}).scalar_one())


def begin_again(connection: Connection, *, kind: str, period: str) -> None:
    """Note that a run begins which may be repeated within its period."""
    connection.execute(
        text("""
            INSERT INTO ops.run (kind, period, state) VALUES (:kind, :period, 'running')
            ON CONFLICT (kind, period) DO UPDATE SET state = 'running', started_at = now()
        """),
        {"kind": kind, "period": period},
    )


def audit_ledger(connection: Connection) -> dict[str, int]:
    """Compare the ledger with the scores; the last two counts are 0 while the promise holds."""
    return {name: int(value) for name, value in connection.execute(text(_AUDIT)).one()._mapping.items()}
