"""The graders' schema: views that answer a question with one simple SELECT, and their documentation.

Views hold no data, so they are declared here as they stand and put in place again after every migration.
A view runs with its owner's rights: a role that may read only this schema sees no table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg.errors import InvalidTableDefinition
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

if TYPE_CHECKING:
    from sqlalchemy import Connection


@dataclass(frozen=True, slots=True)
class View:
    """One view of schema `grader`: its SELECT, what it is for, and what each column means."""

    name: str
    comment: str
    select: str
    columns: dict[str, str]


BATCHES = View(
    name="batches",
    comment="One row a file: is last night's batch done?",
    select="""
        SELECT b.batch_id, b.source, b.file_name, b.received_at, b.num_rows, b.num_accepted, b.num_repeated,
               b.num_conflicts, b.num_rejected,
               count(*) FILTER (WHERE w.state = 'done') AS num_scored,
               count(*) FILTER (WHERE w.state = 'quarantined') AS num_quarantined,
               count(*) FILTER (WHERE w.state IN ('ready', 'leased')) AS num_waiting,
               CASE WHEN count(*) FILTER (WHERE w.state IN ('ready', 'leased')) = 0
                    THEN coalesce(max(w.finished_at), b.received_at) END AS finished_at
        FROM ingest.batch b
        LEFT JOIN ingest.submission s USING (batch_id)
        LEFT JOIN ingest.work w USING (submission_id)
        GROUP BY b.batch_id
    """,
    columns={
        "batch_id": "number of the batch",
        "source": "where the file came from, as named at submission",
        "file_name": "name of the file, without its folder",
        "received_at": "when the file was accepted",
        "num_rows": "rows in the file",
        "num_accepted": "rows that became submissions of this batch",
        "num_repeated": "rows already known with the same content",
        "num_conflicts": "rows already known with other content; not accepted",
        "num_rejected": "rows that could not be accepted; see ingest.reject",
        "num_scored": "submissions that have their scores",
        "num_quarantined": "submissions set aside with a reason",
        "num_waiting": "submissions not yet scored",
        "finished_at": "when the last submission was settled; null while any waits",
    },
)

SCORES = View(
    name="scores",
    comment="One row per submission and trait: the current score and who gave it. A human score always wins.",
    select="""
        SELECT s.submission_id, s.batch_id, s.source, s.response_id, s.attempt, s.item_id, s.student_key,
               m.trait,
               CASE WHEN h.human_score_id IS NOT NULL THEN h.level ELSE m.level END AS level,
               CASE WHEN h.human_score_id IS NOT NULL THEN 'human' ELSE 'machine' END AS given_by,
               CASE WHEN h.human_score_id IS NOT NULL THEN h.condition_code ELSE m.condition_code END
                   AS condition_code,
               m.level AS machine_level, h.level AS human_level, h.purpose AS human_purpose,
               m.probabilities, m.confidence, m.needs_review, m.scorer_id, m.engine, m.scored_at
        FROM ingest.submission s
        JOIN LATERAL (
            SELECT DISTINCT ON (c.trait) c.* FROM score.machine_score c
            WHERE c.submission_id = s.submission_id AND c.role = 'champion'
            ORDER BY c.trait, c.machine_score_id DESC
        ) m ON true
        LEFT JOIN LATERAL (
            SELECT c.* FROM score.human_score c
            WHERE c.submission_id = s.submission_id AND c.trait = m.trait AND c.purpose <> 'training'
            ORDER BY array_position(
                         ARRAY['appeal', 'adjudication', 'second', 'read_behind', 'first'], c.purpose),
                     c.human_score_id DESC
            LIMIT 1
        ) h ON true
    """,
    columns={
        "submission_id": "number of the submission",
        "batch_id": "number of the batch it came with",
        "source": "where it came from",
        "response_id": "the sender's id of the answer",
        "attempt": "the sender's attempt number",
        "item_id": "the question",
        "student_key": "random pseudonym of the student",
        "trait": "the thing scored",
        "level": "the score that counts; null where a condition code stands instead",
        "given_by": "human or machine",
        "condition_code": "why there is no level",
        "machine_level": "the newest champion's level",
        "human_level": "the level by the human read that counts",
        "human_purpose": "appeal, adjudication, second, read_behind or first",
        "probabilities": "the machine's probability of each level, from 0 up",
        "confidence": "the machine's probability of its own level",
        "needs_review": "whether the machine asks for a human read",
        "scorer_id": "the scorer that gave the machine's level",
        "engine": "engine and precision that ran it",
        "scored_at": "when the machine scored it",
    },
)

AGREEMENT = View(
    name="agreement",
    comment="Per item, trait and scorer: how well the machine agrees with human reads.",
    select="""
        SELECT s.item_id, m.trait, m.scorer_id, m.role, count(*) AS num_pairs,
               avg((m.level = h.level)::int)::float8 AS exact,
               avg((abs(m.level - h.level) <= 1)::int)::float8 AS exact_adjacent,
               2 * covar_pop(m.level, h.level)
                   / nullif(var_pop(m.level) + var_pop(h.level) + power(avg(m.level) - avg(h.level), 2), 0)
                   AS qwk,
               ((avg(m.level) - avg(h.level)) / nullif(stddev_samp(h.level), 0))::float8 AS smd
        FROM score.machine_score m
        JOIN score.human_score h ON h.submission_id = m.submission_id AND h.trait = m.trait
             AND h.purpose IN ('first', 'read_behind')
        JOIN ingest.submission s ON s.submission_id = m.submission_id
        WHERE m.level IS NOT NULL AND h.level IS NOT NULL
        GROUP BY s.item_id, m.trait, m.scorer_id, m.role
    """,
    columns={
        "item_id": "the question",
        "trait": "the thing scored",
        "scorer_id": "the scorer compared",
        "role": "champion or shadow at the time of scoring",
        "num_pairs": "answers that both the machine and a person scored",
        "exact": "share of equal levels",
        "exact_adjacent": "share of levels at most one apart",
        "qwk": "quadratic weighted kappa, 2cov/(var+var+(difference of means)^2)",
        "smd": "standardised mean difference, (machine - human) / sd(human)",
    },
)

VIEWS = (BATCHES, SCORES, AGREEMENT)


def refresh(connection: Connection) -> None:
    """Put every view in place as declared; a view whose columns changed is dropped and made again."""
    for view in VIEWS:
        _put(connection, view)
        connection.execute(text(f"COMMENT ON VIEW grader.{view.name} IS {_quoted(view.comment)}"))
        for column, comment in view.columns.items():
            connection.execute(text(f"COMMENT ON COLUMN grader.{view.name}.{column} IS {_quoted(comment)}"))


def _put(connection: Connection, view: View) -> None:
    statement = text(f"CREATE OR REPLACE VIEW grader.{view.name} AS {view.select}")
    try:
        with connection.begin_nested():
            connection.execute(statement)
    except ProgrammingError as error:
        # A column is gone or has another name or type: such a view is not replaced in place.
        if not isinstance(error.orig, InvalidTableDefinition):
            raise
        connection.execute(text(f"DROP VIEW grader.{view.name} CASCADE"))
        connection.execute(statement)


def _quoted(comment: str) -> str:
    # COMMENT takes no parameters; the words are constants of this file.
    return "'" + comment.replace("'", "''") + "'"
