"""What machines and people said about the same answers: levels side by side, and how levels are spread.

Numbers of submissions and levels go out, never an answer's text and never a student.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from db.models.score import PURPOSES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Connection

#: Reads that count as scores, the strongest first; "training" reads teach and never count.
COUNTING = tuple(purpose for purpose in PURPOSES if purpose != "training")
#: Reads by which two people can be compared: each gave the level on their own.
_INDEPENDENT = ("first", "second", "read_behind")


@dataclass(frozen=True, slots=True)
class ReadLevel:
    """One trait of one answer: the machine's level, the human one that counts, and two people's levels."""

    submission_id: int
    trait: str
    machine: int
    human: int
    first: int | None
    second: int | None


@dataclass(frozen=True, slots=True)
class DoubleRead:
    """One trait of one answer as two people read it."""

    trait: str
    first: int
    second: int


@dataclass(frozen=True, slots=True)
class LevelCount:
    """How often a scorer gave a level, recently and before."""

    trait: str
    level: int
    num_recent: int
    num_before: int


@dataclass(frozen=True, slots=True)
class KnownScorer:
    """A scorer that may be evaluated."""

    scorer_id: int
    item_id: str
    alias: str | None


def scorers_to_evaluate(
    connection: Connection, *, item_ids: Sequence[str] = (), scorer_ids: Sequence[int] = ()
) -> list[KnownScorer]:
    """Champions and shadows of these items (all by default), or the scorers with these numbers."""
    rows = connection.execute(
        text("""
            SELECT s.scorer_id, s.item_id,
                   min(a.alias) FILTER (WHERE a.alias IN ('champion', 'shadow')) AS alias
            FROM model.scorer s
            JOIN model.item i ON i.item_id = s.item_id AND i.retired_at IS NULL
            LEFT JOIN model.alias a ON a.scorer_id = s.scorer_id
            WHERE (cardinality(CAST(:items AS text[])) = 0 OR s.item_id = ANY(CAST(:items AS text[])))
              AND (cardinality(CAST(:ids AS bigint[])) = 0 OR s.scorer_id = ANY(CAST(:ids AS bigint[])))
            GROUP BY s.scorer_id
            HAVING cardinality(CAST(:ids AS bigint[])) > 0
                OR bool_or(a.alias IN ('champion', 'shadow'))
            ORDER BY s.item_id, alias, s.scorer_id
        """),
        {"items": list(item_ids), "ids": list(scorer_ids)},
    )
    return [KnownScorer(row.scorer_id, row.item_id, row.alias) for row in rows]


def read_levels(
    connection: Connection,
    scorer_id: int,
    *,
    since: datetime | None = None,
    purposes: Sequence[str] = COUNTING,
) -> list[ReadLevel]:
    """Answers that a scorer and a person gave levels, trait by trait.

    Answers that the scorer was trained or calibrated on are left out, as far as its lineage tells. A level
    that the rubric does not have, as a plain INSERT may bring, is none.

    Args:
        connection: the ledger.
        scorer_id: whose levels.
        since: only answers that a person read at or after this moment.
        purposes: which human reads count; of several the strongest.
    """
    rows = connection.execute(
        text("""
            WITH machine AS (
                SELECT m.submission_id, m.trait, m.level, a.num_levels FROM score.machine_score m
                JOIN model.scorer k USING (scorer_id)
                JOIN model.trait a ON a.item_id = k.item_id AND a.trait = m.trait
                WHERE m.scorer_id = :scorer_id AND m.level IS NOT NULL AND NOT EXISTS (
                    SELECT FROM model.scorer c JOIN model.training_run_submission t USING (training_run_id)
                    WHERE c.scorer_id = m.scorer_id AND t.submission_id = m.submission_id
                      AND t.fold <> 'test')
            ), human AS (
                SELECT DISTINCT ON (h.submission_id, h.trait) h.submission_id, h.trait, h.level, h.scored_at
                FROM machine m JOIN score.human_score h USING (submission_id, trait)
                WHERE h.purpose = ANY(CAST(:purposes AS text[]))
                ORDER BY h.submission_id, h.trait,
                         array_position(CAST(:strongest_first AS text[]), h.purpose), h.human_score_id DESC
            ), rater AS (
                SELECT DISTINCT ON (h.submission_id, h.trait, h.rater) h.submission_id, h.trait, h.level,
                       h.human_score_id
                FROM machine m JOIN score.human_score h USING (submission_id, trait)
                WHERE h.purpose = ANY(CAST(:independent AS text[]))
                  AND h.level BETWEEN 0 AND m.num_levels - 1
                ORDER BY h.submission_id, h.trait, h.rater, h.human_score_id
            ), twice AS (
                SELECT submission_id, trait,
                       (array_agg(level ORDER BY human_score_id))[1] AS first,
                       (array_agg(level ORDER BY human_score_id))[2] AS second
                FROM rater GROUP BY submission_id, trait HAVING count(*) > 1
            )
            SELECT m.submission_id, m.trait, m.level AS machine, h.level AS human, t.first, t.second
            FROM machine m JOIN human h USING (submission_id, trait)
            LEFT JOIN twice t USING (submission_id, trait)
            WHERE h.level BETWEEN 0 AND m.num_levels - 1
              AND (CAST(:since AS timestamptz) IS NULL OR h.scored_at >= CAST(:since AS timestamptz))
            ORDER BY m.submission_id, m.trait
        """),
        {
            "scorer_id": scorer_id,
            "since": since,
            "purposes": list(purposes),
            "strongest_first": list(PURPOSES),
            "independent": list(_INDEPENDENT),
        },
    )
    return [ReadLevel(**row._mapping) for row in rows]


def double_reads(connection: Connection, item_id: str) -> list[DoubleRead]:
    """Every answer of an item that two people read on their own, trait by trait."""
    rows = connection.execute(
        text("""
            SELECT trait, levels[1] AS first, levels[2] AS second
            FROM (
                SELECT trait, array_agg(level ORDER BY human_score_id) AS levels
                FROM (
                    SELECT DISTINCT ON (h.submission_id, h.trait, h.rater) h.submission_id, h.trait, h.level,
                           h.human_score_id
                    FROM score.human_score h
                    JOIN ingest.submission s USING (submission_id)
                    JOIN model.trait t ON t.item_id = s.item_id AND t.trait = h.trait
                    WHERE s.item_id = :item_id AND h.purpose = ANY(CAST(:independent AS text[]))
                      AND h.level BETWEEN 0 AND t.num_levels - 1
                    ORDER BY h.submission_id, h.trait, h.rater, h.human_score_id
                ) rater
                GROUP BY submission_id, trait HAVING count(*) > 1
            ) twice
        """),
        {"item_id": item_id, "independent": list(_INDEPENDENT)},
    )
    return [DoubleRead(**row._mapping) for row in rows]


def response_ids(connection: Connection, submission_ids: Sequence[int]) -> dict[int, str]:
    """The senders' ids of these submissions."""
    rows = connection.execute(
        text("""
            SELECT submission_id, response_id FROM ingest.submission
            WHERE submission_id = ANY(CAST(:ids AS bigint[]))
        """),
        {"ids": list(submission_ids)},
    )
    return {row.submission_id: row.response_id for row in rows}


def level_counts(connection: Connection, scorer_id: int, *, since: datetime) -> list[LevelCount]:
    """How a scorer's levels are spread, at or after a moment and before it."""
    rows = connection.execute(
        text("""
            SELECT trait, level, count(*) FILTER (WHERE scored_at >= :since) AS num_recent,
                   count(*) FILTER (WHERE scored_at < :since) AS num_before
            FROM score.machine_score WHERE scorer_id = :scorer_id AND level IS NOT NULL
            GROUP BY trait, level ORDER BY trait, level
        """),
        {"scorer_id": scorer_id, "since": since},
    )
    return [LevelCount(**row._mapping) for row in rows]
