"""Answers that people gave a level in every trait: what a retraining can learn from, and how much is new.

A plain INSERT by another tool counts like an import; a level outside the rubric makes an answer unreadable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from db.models.score import PURPOSES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from sqlalchemy import Connection


@dataclass(frozen=True, slots=True)
class Champion:
    """An item's champion and what has come in since the item was last trained."""

    item_id: str
    scorer_id: int
    scorer_key: str
    training_run_id: int | None
    metrics: dict[str, Any]
    #: Answers that people gave a level in every trait.
    num_readable: int
    #: Those of them that no earlier run of this item used; see `champions`.
    num_new: int


@dataclass(frozen=True, slots=True)
class ReadAnswer:
    """An answer with its current human level in every trait; texts and pseudonyms stay inside the process."""

    submission_id: int
    text: str
    student_key: UUID | None
    levels: dict[str, int]


#: Submissions with a current human level in every trait, with the moment of the newest of them.
_READABLE = """
readable AS (
    SELECT c.item_id, c.submission_id, max(c.scored_at) AS read_at,
           jsonb_object_agg(c.trait, c.level) AS levels
    FROM (
        SELECT DISTINCT ON (h.submission_id, h.trait)
               s.item_id, h.submission_id, h.trait, h.level, h.scored_at
        FROM score.human_score h JOIN ingest.submission s USING (submission_id)
        WHERE CAST(:item_id AS text) IS NULL OR s.item_id = :item_id
        ORDER BY h.submission_id, h.trait, array_position(CAST(:purposes AS text[]), h.purpose),
                 h.human_score_id DESC
    ) c JOIN model.trait t ON t.item_id = c.item_id AND t.trait = c.trait
    WHERE c.level BETWEEN 0 AND t.num_levels - 1
    GROUP BY c.item_id, c.submission_id
    HAVING count(*) = (SELECT count(*) FROM model.trait a WHERE a.item_id = c.item_id)
)
"""


def champions(connection: Connection) -> list[Champion]:
    """Every served item with the reads that have come in since it was last trained.

    New is an answer that no run of the item used that came to its end. Where the champion's own training
    left no lineage (it learned from a file) only reads after it was registered count. A merge uses up reads
    only while its scorer is the champion, and only those that were there: it learns from answers that nobody
    read as well.
    """
    rows = connection.execute(
        text(f"""
            WITH {_READABLE}, champion AS (
                SELECT a.item_id, c.scorer_id, c.scorer_key, c.training_run_id, c.metrics,
                       CASE WHEN EXISTS (SELECT FROM model.training_run_submission t
                                         WHERE t.training_run_id = c.training_run_id)
                            THEN '-infinity'::timestamptz ELSE c.created_at END AS since
                FROM model.alias a JOIN model.scorer c USING (scorer_id)
                JOIN model.item i ON i.item_id = a.item_id AND i.retired_at IS NULL
                WHERE a.alias = 'champion'
            ), used AS (
                SELECT DISTINCT r.item_id, t.submission_id
                FROM model.training_run_submission t JOIN model.training_run r USING (training_run_id)
                JOIN readable d USING (submission_id)
                WHERE r.state = 'done' AND (r.trigger <> 'merge' OR (
                    r.training_run_id IN (SELECT training_run_id FROM champion)
                    AND d.read_at <= r.started_at))
            )
            SELECT c.item_id, c.scorer_id, c.scorer_key, c.training_run_id, c.metrics,
                   count(r.submission_id) AS num_readable,
                   count(r.submission_id) FILTER (WHERE u.submission_id IS NULL AND r.read_at > c.since)
                       AS num_new
            FROM champion c
            LEFT JOIN readable r USING (item_id)
            LEFT JOIN used u ON u.item_id = r.item_id AND u.submission_id = r.submission_id
            GROUP BY c.item_id, c.scorer_id, c.scorer_key, c.training_run_id, c.metrics
            ORDER BY c.item_id
        """),
        {"item_id": None, "purposes": list(PURPOSES)},
    )
    return [Champion(**row._mapping) for row in rows]


def read_answers(connection: Connection, item_id: str) -> list[ReadAnswer]:
    """An item's answers that people gave a level in every trait, in the order of submission."""
    rows = connection.execute(
        text(f"""
            WITH {_READABLE}
            SELECT s.submission_id, s.text, s.student_key, r.levels
            FROM readable r JOIN ingest.submission s USING (submission_id) ORDER BY s.submission_id
        """),
        {"item_id": item_id, "purposes": list(PURPOSES)},
    )
    return [ReadAnswer(**row._mapping) for row in rows]


def learned_from(connection: Connection, scorer_id: int) -> set[int]:
    """Submissions that moved or calibrated a scorer; none where its lineage is not known."""
    return {number for number, fold in folds_of(connection, scorer_id).items() if fold != "test"}


def folds_of(connection: Connection, scorer_id: int) -> dict[int, str]:
    """The fold in which each submission stood when a scorer was made; none where its lineage is not known."""
    rows = connection.execute(
        text("""
            SELECT t.submission_id, t.fold FROM model.scorer c JOIN model.training_run_submission t
                USING (training_run_id)
            WHERE c.scorer_id = :scorer_id
        """),
        {"scorer_id": scorer_id},
    )
    return {row.submission_id: row.fold for row in rows}


def pseudonyms(connection: Connection, source: str, student_ids: Sequence[str]) -> dict[str, UUID]:
    """The pseudonyms of those of a source's students that are known."""
    rows = connection.execute(
        text("""
            SELECT source_student_id, student_key FROM pii.student
            WHERE source = :source AND source_student_id = ANY(CAST(:ids AS text[]))
        """),
        {"source": source, "ids": list(student_ids)},
    )
    return {row.source_student_id: row.student_key for row in rows}
