"""Erasure: a student's answers and all that hangs on them, or answers that have been kept long enough.

Bytes in quarantine that are theirs go too. What is left is one row of the audit: counts, the pseudonym that
no longer leads anywhere, and the scorers that learned from the answers. The real id is not repeated there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import JSONB

from db import kept_bytes
from db.kept_bytes import Wanted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from sqlalchemy import Connection


@dataclass(frozen=True, slots=True)
class TrainedScorer:
    """A scorer and whether it serves its item now."""

    scorer_id: int
    item_id: str
    alias: str | None


@dataclass(frozen=True, slots=True)
class Erasure:
    """What was erased; the scorers keep what they learned until they are trained again."""

    student_keys: tuple[UUID, ...]
    num_submissions: int
    num_machine_scores: int
    num_human_scores: int
    #: Trained, validated or tested on erased answers, by the lineage of their training runs; and those whose
    #: extractor learned from them, shared with another item's scorer or merged from one's.
    scorers: tuple[TrainedScorer, ...]
    #: Scorers of the same items whose training came from a file: nobody can say.
    scorers_of_unknown_lineage: tuple[TrainedScorer, ...]
    #: Cases of quarantine whose bytes were the student's.
    num_cases: int = 0
    #: Cases in which the id stands as a word and nothing says whose they are: left to a person.
    cases_to_look_at: tuple[int, ...] = ()


_STUDENTS = """
SELECT student_key, source, source_student_id FROM pii.student
WHERE (source_student_id = :student OR CAST(student_key AS text) = :student)
  AND (CAST(:source AS text) IS NULL OR source = :source)
ORDER BY student_key FOR UPDATE
"""

_ERASED = "CREATE TEMPORARY TABLE erased (submission_id bigint PRIMARY KEY, item_id text) ON COMMIT DROP"

_COUNTS = """
SELECT (SELECT count(*) FROM erased) AS num_submissions,
       (SELECT count(*) FROM score.machine_score JOIN erased USING (submission_id)) AS num_machine_scores,
       (SELECT count(*) FROM score.human_score JOIN erased USING (submission_id)) AS num_human_scores
"""

#: What a scorer learned stands in its extractor too, for all that share it and all that are merged from it.
_SCORERS = """
WITH RECURSIVE direct AS (
    SELECT c.scorer_id, c.extractor_id, bool_or(t.fold <> 'test') AS learned
    FROM model.scorer c JOIN model.training_run_submission t USING (training_run_id)
    JOIN erased USING (submission_id) GROUP BY c.scorer_id
), taught(extractor_id) AS (
    SELECT extractor_id FROM direct WHERE learned
    UNION
    SELECT x.extractor_id FROM model.extractor x JOIN taught p ON p.extractor_id = ANY(x.parents)
), found AS (
    SELECT c.scorer_id, c.item_id, c.training_run_id,
           c.scorer_id IN (SELECT scorer_id FROM direct)
               OR c.extractor_id IN (SELECT extractor_id FROM taught) AS known
    FROM model.scorer c
)
SELECT f.scorer_id, f.item_id, f.known,
       (SELECT min(a.alias) FROM model.alias a WHERE a.scorer_id = f.scorer_id) AS alias
FROM found f
WHERE f.known
   OR (f.item_id IN (SELECT item_id FROM erased)
       AND NOT EXISTS (SELECT FROM model.training_run_submission t
                       WHERE t.training_run_id = f.training_run_id))
ORDER BY f.scorer_id
"""

_AUDIT = text("""
    INSERT INTO score.audit (actor, action, subject, detail) VALUES (:actor, :action, :subject, :detail)
""").bindparams(bindparam("detail", type_=JSONB))

_OLD = """
INSERT INTO erased
SELECT submission_id, item_id FROM ingest.submission
WHERE source = :source AND received_at < now() - make_interval(days => :keep_days)
ORDER BY submission_id LIMIT :limit
"""

_FORGOTTEN = """
DELETE FROM pii.student p
WHERE p.source = :source AND p.created_at < now() - make_interval(days => :keep_days)
  AND NOT EXISTS (SELECT FROM ingest.submission s WHERE s.student_key = p.student_key)
"""


def forget(connection: Connection, student: str, *, source: str | None, actor: str) -> Erasure | None:
    """Erase a student's answers, scores, pseudonym and bytes in quarantine.

    The caller's transaction makes it all or nothing.

    Args:
        connection: an open transaction.
        student: the id that the source gives, or the pseudonym.
        source: one source only; all by default.
        actor: who asks for it, for the audit.

    Returns:
        What was erased; None if no such student is known.
    """
    found = connection.execute(text(_STUDENTS), {"student": student, "source": source}).all()
    keys = [row.student_key for row in found]
    names = {(row.source, row.source_student_id) for row in found} | {(source, student)}
    cases, to_look_at = kept_bytes.cases_of_student(
        connection, Wanted(frozenset(names), _answers(connection, keys))
    )
    if not (keys or cases or to_look_at):
        return None
    connection.execute(text(_ERASED))
    connection.execute(
        text("""
            INSERT INTO erased SELECT submission_id, item_id FROM ingest.submission
            WHERE student_key = ANY(:keys)
        """),
        {"keys": keys},
    )
    erasure = replace(_told(connection, keys), num_cases=len(cases), cases_to_look_at=tuple(to_look_at))
    # Submissions, work, scores, requests and lineage go with it by cascade.
    connection.execute(text("DELETE FROM pii.student WHERE student_key = ANY(:keys)"), {"keys": keys})
    kept_bytes.erase(connection, cases, resolution=f"erased by {actor}: a student was forgotten")
    # A student of whom quarantine alone knew never had a pseudonym.
    for subject in [str(key) for key in keys] or (["quarantine"] if cases else []):
        _write_audit(connection, erasure, action="forget", subject=subject, actor=actor)
    return erasure


def expire(
    connection: Connection, *, source: str, keep_days: int, actor: str, max_rows: int = 10_000
) -> Erasure:
    """Erase up to `max_rows` answers of a source that came in more than `keep_days` days ago.

    With the last of them go the source's students who have no answer any more.
    """
    connection.execute(text(_ERASED))
    scope = {"source": source, "keep_days": keep_days}
    connection.execute(text(_OLD), {**scope, "limit": max_rows})
    erasure = _told(connection, ())
    if erasure.num_submissions:
        connection.execute(
            text("DELETE FROM ingest.submission s USING erased e WHERE e.submission_id = s.submission_id")
        )
        _write_audit(connection, erasure, action="expire", subject=f"source {source}", actor=actor)
    if erasure.num_submissions < max_rows:
        connection.execute(text(_FORGOTTEN), scope)
    return erasure


def num_expired(connection: Connection, *, source: str, keep_days: int) -> int:
    """How many answers of a source came in more than `keep_days` days ago."""
    found = connection.execute(
        text("""
            SELECT count(*) FROM ingest.submission
            WHERE source = :source AND received_at < now() - make_interval(days => :keep_days)
        """),
        {"source": source, "keep_days": keep_days},
    )
    return int(found.scalar_one())


def expire_cases(connection: Connection, *, source: str, keep_days: int, actor: str) -> int:
    """Erase bytes in quarantine that a source sent more than `keep_days` days ago; returns of how many cases.

    Bytes that name no source are nobody's by policy: they stay until somebody purges them.
    """
    cases = kept_bytes.cases_of_source(connection, source, keep_days=keep_days)
    kept_bytes.erase(connection, cases, resolution=f"erased by {actor}: kept for {keep_days} days")
    if cases:
        detail = {"num_cases": len(cases)}
        subject = f"source {source}"
        connection.execute(_AUDIT, {"actor": actor, "action": "expire", "subject": subject, "detail": detail})
    return len(cases)


def num_expired_cases(connection: Connection, *, source: str, keep_days: int) -> int:
    """How many cases of quarantine hold bytes that a source sent more than `keep_days` days ago."""
    return len(kept_bytes.cases_of_source(connection, source, keep_days=keep_days))


def _answers(connection: Connection, keys: Sequence[UUID]) -> frozenset[tuple[str, str, int]]:
    found = connection.execute(
        text("SELECT source, response_id, attempt FROM ingest.submission WHERE student_key = ANY(:keys)"),
        {"keys": keys},
    )
    return frozenset((row.source, row.response_id, row.attempt) for row in found)


def _told(connection: Connection, keys: Sequence[UUID]) -> Erasure:
    counts = connection.execute(text(_COUNTS)).one()._asdict()
    scorers = connection.execute(text(_SCORERS)).all()
    named = [(row.known, TrainedScorer(row.scorer_id, row.item_id, row.alias)) for row in scorers]
    return Erasure(
        student_keys=tuple(keys),
        **counts,
        scorers=tuple(scorer for known, scorer in named if known),
        scorers_of_unknown_lineage=tuple(scorer for known, scorer in named if not known),
    )


def _write_audit(connection: Connection, erasure: Erasure, *, action: str, subject: str, actor: str) -> None:
    detail = {
        "num_submissions": erasure.num_submissions,
        "num_machine_scores": erasure.num_machine_scores,
        "num_human_scores": erasure.num_human_scores,
        "num_cases": erasure.num_cases,
        "scorer_ids": [scorer.scorer_id for scorer in erasure.scorers],
        "scorer_ids_of_unknown_lineage": [one.scorer_id for one in erasure.scorers_of_unknown_lineage],
    }
    connection.execute(_AUDIT, {"actor": actor, "action": action, "subject": subject, "detail": detail})
