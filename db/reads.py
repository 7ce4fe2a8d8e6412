"""What the command line shows: progress of batches, scores, agreement. Reads the graders' views only."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Connection


@dataclass(frozen=True, slots=True)
class BatchProgress:
    """How far one batch is; submissions = scored + quarantined + waiting."""

    batch_id: int
    source: str
    file_name: str
    received_at: datetime
    num_rows: int
    num_accepted: int
    num_repeated: int
    num_conflicts: int
    num_rejected: int
    num_scored: int
    num_quarantined: int
    num_waiting: int
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class ItemSummary:
    """One item of a batch: how many answers, how many ask for review, agreement with human reads."""

    item_id: str
    trait: str
    num_answers: int
    num_condition_codes: int
    num_needing_review: int
    num_pairs: int
    qwk: float | None
    exact: float | None


@dataclass(frozen=True, slots=True)
class BatchTotals:
    """Batches in numbers, as the end of a night wants them."""

    submissions: int
    scored: int
    quarantined: int
    rejected: int
    items: int
    extractors: int
    #: From the first message sent to the last score written; the workers' start is in it.
    answers_per_s: float


def batches(connection: Connection, *, batch_id: int | None = None, limit: int = 10) -> list[BatchProgress]:
    """The newest batches, or one."""
    columns = ", ".join(field.name for field in fields(BatchProgress))
    rows = connection.execute(
        text(f"""
            SELECT {columns} FROM grader.batches
            WHERE CAST(:batch_id AS bigint) IS NULL OR batch_id = :batch_id
            ORDER BY batch_id DESC LIMIT :limit
        """),
        {"batch_id": batch_id, "limit": limit},
    )
    return [BatchProgress(**row._asdict()) for row in rows]


def scores(
    connection: Connection, *, batch_id: int | None = None, item_id: str | None = None, limit: int = 20
) -> list[dict[str, Any]]:
    """Current scores, in the order of submission; without the answers' text."""
    rows = connection.execute(
        text("""
            SELECT submission_id, response_id, attempt, item_id, trait, level, given_by, condition_code,
                   confidence, needs_review, scorer_id, scored_at
            FROM grader.scores
            WHERE (CAST(:batch_id AS bigint) IS NULL OR batch_id = :batch_id)
              AND (CAST(:item_id AS text) IS NULL OR item_id = :item_id)
            ORDER BY submission_id, trait LIMIT :limit
        """),
        {"batch_id": batch_id, "item_id": item_id, "limit": limit},
    )
    return [dict(row._mapping) for row in rows]


def totals(connection: Connection, *, batch_ids: Sequence[int]) -> BatchTotals:
    """Count some batches together, straight from the tables."""
    row = connection.execute(
        text("""
            SELECT count(*) AS submissions,
                   count(*) FILTER (WHERE w.state = 'done') AS scored,
                   count(*) FILTER (WHERE w.state = 'quarantined') AS quarantined,
                   (SELECT sum(num_rejected + num_conflicts) FROM ingest.batch
                    WHERE batch_id = ANY(CAST(:batch_ids AS bigint[]))) AS rejected,
                   count(DISTINCT s.item_id) AS items,
                   (SELECT count(DISTINCT c.extractor_id)
                    FROM score.machine_score m JOIN model.scorer c USING (scorer_id)
                    JOIN ingest.submission t ON t.submission_id = m.submission_id
                    WHERE t.batch_id = ANY(CAST(:batch_ids AS bigint[]))) AS extractors,
                   extract(epoch FROM max(w.finished_at) - min(w.dispatched_at)) AS seconds
            FROM ingest.submission s JOIN ingest.work w USING (submission_id)
            WHERE s.batch_id = ANY(CAST(:batch_ids AS bigint[]))
        """),
        {"batch_ids": list(batch_ids)},
    ).one()
    values = row._asdict()
    seconds = float(values.pop("seconds") or 0.0)
    speed = round(row.scored / seconds, 1) if seconds > 0 else 0.0
    return BatchTotals(**values, answers_per_s=speed)


def summary(connection: Connection, *, batch_ids: Sequence[int]) -> list[ItemSummary]:
    """Per item and trait of some batches: counts, share needing review, agreement with human reads."""
    rows = connection.execute(
        text("""
            SELECT s.item_id, s.trait, count(*) AS num_answers,
                   count(*) FILTER (WHERE s.machine_level IS NULL) AS num_condition_codes,
                   count(*) FILTER (WHERE s.needs_review) AS num_needing_review,
                   count(*) FILTER (WHERE s.machine_level IS NOT NULL AND s.human_level IS NOT NULL)
                       AS num_pairs,
                   2 * covar_pop(s.machine_level, s.human_level)
                       / nullif(var_pop(s.machine_level) FILTER (WHERE s.human_level IS NOT NULL)
                              + var_pop(s.human_level) FILTER (WHERE s.machine_level IS NOT NULL)
                              + power(avg(s.machine_level) FILTER (WHERE s.human_level IS NOT NULL)
                                    - avg(s.human_level) FILTER (WHERE s.machine_level IS NOT NULL), 2), 0)
                       AS qwk,
                   avg((s.machine_level = s.human_level)::int)::float8 AS exact
            FROM grader.scores s
            WHERE s.batch_id = ANY(CAST(:batch_ids AS bigint[])) AND s.machine_score_id IS NOT NULL
            GROUP BY s.item_id, s.trait ORDER BY s.item_id, s.trait
        """),
        {"batch_ids": list(batch_ids)},
    )
    return [ItemSummary(**_floats(row._asdict())) for row in rows]


def work_states(connection: Connection) -> dict[str, int]:
    """How many submissions are in each state of the ledger."""
    found = {
        row.state: row.num
        for row in connection.execute(text("SELECT state, count(*) AS num FROM ingest.work GROUP BY state"))
    }
    return {state: found.get(state, 0) for state in ("ready", "leased", "done", "quarantined")}


def _floats(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "qwk": None if row["qwk"] is None else float(row["qwk"])}
