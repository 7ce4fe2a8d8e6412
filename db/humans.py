"""Human scores: taken in from a file in one transaction, idempotently, each row judged in the database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from db.copying import copy_rows
from db.intake import RejectedRow

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Connection


@dataclass(frozen=True, slots=True)
class HumanRow:
    """One person's level for one trait; `trait` None means the item's only trait.

    `response_id` None means the answer that this student of the source gave to this item; given beside it,
    they must agree with it. `rater` None means whoever the file as a whole is from.
    """

    line: int
    response_id: str | None
    attempt: int
    trait: str | None
    level: int
    rater: str | None = None
    student_id: str | None = None
    item_id: str | None = None


@dataclass(frozen=True, slots=True)
class HumanReport:
    """What became of the rows; rows that say what is known already count as repeated."""

    num_rows: int
    num_new: int
    num_repeated: int
    num_rejected: int
    examples: tuple[RejectedRow, ...]


_INCOMING = """
CREATE TEMPORARY TABLE incoming_human (
    line int NOT NULL, response_id text, student_id text, item_id text, attempt int, trait text, level int,
    rater text, reason text, detail text, submission_id bigint
) ON COMMIT DROP
"""

_COPY = """
COPY incoming_human (line, response_id, student_id, item_id, attempt, trait, level, rater, reason, detail)
FROM STDIN
"""

# The names under which the ledger keeps what a source knows by student and item.
_NAMES = """
UPDATE incoming_human i
SET response_id = k.response_id, reason = CASE WHEN k.num > 1 THEN 'ambiguous' END,
    detail = CASE WHEN k.num > 1 THEN format('%s answers of this student to item %s, attempt %s; give the'
                                             ' response_id of the one that is meant', k.num, i.item_id,
                                             i.attempt) END
FROM (
    SELECT p.source_student_id, s.item_id, s.attempt, min(s.response_id) AS response_id, count(*) AS num
    FROM (SELECT DISTINCT student_id FROM incoming_human WHERE reason IS NULL AND response_id IS NULL) w
    JOIN pii.student p ON p.source = :source AND p.source_student_id = w.student_id
    JOIN ingest.submission s USING (student_key)
    GROUP BY p.source_student_id, s.item_id, s.attempt
) k
WHERE i.reason IS NULL AND i.response_id IS NULL AND k.source_student_id = i.student_id
  AND k.item_id = i.item_id AND k.attempt = i.attempt
"""

# Two names for two answers: nobody can say which one was read. The student's id is not repeated.
_AGREE = """
UPDATE incoming_human i
SET reason = 'another_answer',
    detail = format('response %s attempt %s is to item %s', s.response_id, s.attempt, s.item_id)
             || CASE WHEN i.item_id <> s.item_id THEN format(', not %s', i.item_id)
                     ELSE ', by another student' END
FROM ingest.submission s LEFT JOIN pii.student p USING (student_key)
WHERE i.reason IS NULL AND s.source = :source AND s.response_id = i.response_id AND s.attempt = i.attempt
  AND (i.item_id <> s.item_id OR i.student_id <> p.source_student_id)
"""

_MATCH = """
UPDATE incoming_human i
SET submission_id = s.submission_id,
    trait = coalesce(i.trait, (SELECT min(t.trait) FROM model.trait t WHERE t.item_id = s.item_id
                               HAVING count(*) = 1)),
    reason = CASE
        WHEN i.trait IS NULL AND (SELECT count(*) FROM model.trait t WHERE t.item_id = s.item_id) > 1
            THEN 'trait_missing'
        WHEN i.trait IS NOT NULL AND NOT EXISTS (
            SELECT FROM model.trait t WHERE t.item_id = s.item_id AND t.trait = i.trait) THEN 'unknown_trait'
        WHEN NOT EXISTS (SELECT FROM model.trait t WHERE t.item_id = s.item_id
                         AND t.trait = coalesce(i.trait, t.trait) AND i.level BETWEEN 0 AND t.num_levels - 1)
            THEN 'level_out_of_range' END
FROM ingest.submission s
WHERE i.reason IS NULL AND s.source = :source AND s.response_id = i.response_id AND s.attempt = i.attempt
"""

_JUDGE = """
UPDATE incoming_human SET
    reason = CASE WHEN submission_id IS NULL THEN 'unknown_submission' ELSE reason END,
    detail = CASE WHEN submission_id IS NULL
                  THEN CASE WHEN response_id IS NULL
                            THEN format('no answer of this student to item %s, attempt %s', item_id, attempt)
                            ELSE format('no submission with response %s attempt %s', response_id, attempt)
                       END
                  ELSE format('response %s attempt %s, trait %s, level %s', response_id, attempt, trait,
                              level)
             END
WHERE detail IS NULL AND (reason IS NOT NULL OR submission_id IS NULL)
"""

_TWICE = """
UPDATE incoming_human i SET reason = 'contradicts',
    detail = format('response %s attempt %s: line %s gives another level for the same trait', i.response_id,
                    i.attempt, f.line)
FROM (SELECT DISTINCT ON (submission_id, trait, rater) submission_id, trait, rater, line, level
      FROM incoming_human WHERE reason IS NULL ORDER BY submission_id, trait, rater, line) f
WHERE i.reason IS NULL AND f.submission_id = i.submission_id AND f.trait = i.trait AND f.rater = i.rater
  AND f.level <> i.level
"""

_INSERT = """
WITH added AS (
    INSERT INTO score.human_score (submission_id, trait, purpose, rater, level)
    SELECT DISTINCT ON (submission_id, trait, rater) submission_id, trait, :purpose, rater, level
    FROM incoming_human WHERE reason IS NULL ORDER BY submission_id, trait, rater, line
    ON CONFLICT (submission_id, trait, purpose, rater) DO NOTHING
    RETURNING submission_id, trait
)
SELECT count(*) FROM added
"""

_DIFFERENT = """
UPDATE incoming_human i SET reason = 'conflict',
    detail = format('response %s attempt %s: %s has given level %s before', i.response_id, i.attempt,
                    i.rater, coalesce(CAST(h.level AS text), h.condition_code))
FROM score.human_score h
WHERE i.reason IS NULL AND h.submission_id = i.submission_id AND h.trait = i.trait
  AND h.purpose = :purpose AND h.rater = i.rater AND h.level IS DISTINCT FROM i.level
"""


def accept_human_scores(
    connection: Connection,
    rows: Iterable[HumanRow | RejectedRow],
    *,
    source: str,
    rater: str,
    purpose: str = "first",
    max_examples: int = 20,
) -> HumanReport:
    """Take human scores into the ledger; the caller's transaction makes it all or nothing.

    A score that the same rater has given before with another level is reported, never overwritten.
    """
    connection.execute(text(_INCOMING))
    copy_rows(connection, _COPY, (_columns(row, rater) for row in rows))
    scope = {"source": source, "purpose": purpose}
    connection.execute(text(_NAMES), scope)
    connection.execute(text(_AGREE), scope)
    connection.execute(text(_MATCH), scope)
    connection.execute(text(_JUDGE))
    connection.execute(text(_TWICE))
    num_new = int(connection.execute(text(_INSERT), scope).scalar_one())
    connection.execute(text(_DIFFERENT), scope)
    return _report(connection, num_new=num_new, max_examples=max_examples)


def _columns(row: HumanRow | RejectedRow, rater: str) -> tuple[object, ...]:
    if isinstance(row, RejectedRow):
        return (row.line, *(None,) * 7, row.reason, row.detail)
    return (
        row.line,
        row.response_id,
        row.student_id,
        row.item_id,
        row.attempt,
        row.trait,
        row.level,
        row.rater or rater,
        None,
        None,
    )


def _report(connection: Connection, *, num_new: int, max_examples: int) -> HumanReport:
    counts = connection.execute(
        text("""
            SELECT count(*) AS num_rows, count(*) FILTER (WHERE reason IS NOT NULL) AS num_rejected
            FROM incoming_human
        """)
    ).one()
    shown = connection.execute(
        text("""
            SELECT line, reason, detail FROM incoming_human WHERE reason IS NOT NULL
            ORDER BY line LIMIT :n
        """),
        {"n": max_examples},
    )
    return HumanReport(
        num_rows=counts.num_rows,
        num_new=num_new,
        num_repeated=counts.num_rows - counts.num_rejected - num_new,
        num_rejected=counts.num_rejected,
        examples=tuple(RejectedRow(row.line, row.reason, row.detail) for row in shown),
    )
