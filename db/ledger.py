"""The ledger protocol: claim, renew, finish, give back, fail, sweep; each in one transaction.

A message from the broker is a hint; what has been accepted and what is done is said here only.
Delivery is at least once; the effect is exactly once, because `finish` is fenced by the claim's token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection


@dataclass(frozen=True, slots=True)
class LeasePolicy:
    """How long a claim lives without renewal, and when a failing submission is given up."""

    lease_s: float = 20.0
    #: First back-off after a failed attempt; doubles with each further one.
    backoff_s: float = 1.0
    max_backoff_s: float = 300.0
    #: Failed attempts alone in a process before quarantine.
    max_solo_attempts: int = 3
    #: Suspects that share one process on their second attempt; from the third on each runs alone.
    suspect_group: int = 32


@dataclass(frozen=True, slots=True)
class Claim:
    """Submissions that belong to one worker until the lease ends, column by column [num_claimed]."""

    token: UUID
    submission_ids: list[int]
    item_ids: list[str]
    texts: list[str]
    #: One suspect, alone; the attempt counts towards quarantine unless it is given back.
    is_solo: bool = False

    def __len__(self) -> int:
        return len(self.submission_ids)


@dataclass(frozen=True, slots=True)
class ScoreColumns:
    """Rows of `score.machine_score`, column by column [num_scores]."""

    submission_id: list[int]
    trait: list[str]
    scorer_id: list[int]
    role: list[str]
    level: list[int | None]
    probabilities: list[list[float] | None]
    confidence: list[float | None]
    condition_code: list[str | None]
    needs_review: list[bool]
    engine: list[str]


@dataclass(frozen=True, slots=True)
class Sweep:
    """What became of submissions that were taken back."""

    #: Ready again, as suspects.
    num_expired: int
    num_quarantined: int


# Counts stay within a smallint however often they are raised: an overflow would keep an answer unclaimed.
_CLAIM = """
WITH picked AS (
    SELECT w.submission_id FROM ingest.work w
    WHERE w.submission_id = ANY(CAST(:ids AS bigint[])) AND w.state = 'ready' AND w.ready_at <= now()
      AND w.num_attempts BETWEEN :min_attempts AND :max_attempts
    ORDER BY w.submission_id LIMIT :max_rows
    FOR UPDATE SKIP LOCKED
), leased AS (
    UPDATE ingest.work w
    SET state = 'leased', token = :token, num_attempts = least(w.num_attempts + 1, 32767),
        num_solo_attempts = least(w.num_solo_attempts + CAST(:solo AS int), 32767)
    FROM picked WHERE w.submission_id = picked.submission_id
    RETURNING w.submission_id
), lease AS (
    INSERT INTO ingest.lease (token, worker, submission_ids, lease_until)
    SELECT :token, :worker, array_agg(submission_id), now() + make_interval(secs => :lease_s)
    FROM leased HAVING count(*) > 0
)
SELECT s.submission_id, s.item_id, s.text
FROM leased JOIN ingest.submission s USING (submission_id) ORDER BY s.submission_id
"""

_FINISH = """
WITH mine AS (
    UPDATE ingest.work SET state = 'done', token = NULL, finished_at = now(), last_error = NULL
    WHERE submission_id = ANY(CAST(:ids AS bigint[])) AND state = 'leased' AND token = :token
    RETURNING submission_id
), written AS (
    INSERT INTO score.machine_score (submission_id, trait, scorer_id, role, level, probabilities, confidence,
                                     condition_code, needs_review, engine)
    SELECT v.submission_id, v.trait, v.scorer_id, v.role, v.level, CAST(v.probabilities AS real[]),
           v.confidence, v.condition_code, v.needs_review, v.engine
    FROM unnest(CAST(:submission_id AS bigint[]), CAST(:trait AS text[]), CAST(:scorer_id AS bigint[]),
                CAST(:role AS text[]), CAST(:level AS smallint[]), CAST(:probabilities AS text[]),
                CAST(:confidence AS real[]), CAST(:condition_code AS text[]),
                CAST(:needs_review AS boolean[]), CAST(:engine AS text[]))
         AS v(submission_id, trait, scorer_id, role, level, probabilities, confidence, condition_code,
              needs_review, engine)
    JOIN mine USING (submission_id)
    ON CONFLICT (submission_id, trait, scorer_id) DO NOTHING
), settled AS (
    DELETE FROM ingest.lease WHERE token = :token
)
SELECT count(*) FROM mine
"""

_RENEW = """
UPDATE ingest.lease SET lease_until = now() + make_interval(secs => :lease_s)
WHERE token = ANY(CAST(:tokens AS uuid[])) RETURNING token
"""

_GIVE_BACK = """
UPDATE ingest.work
SET state = 'ready', token = NULL, dispatched_at = NULL,
    ready_at = now() + make_interval(secs => :delay_s),
    num_attempts = num_attempts - 1, num_solo_attempts = num_solo_attempts - :solo, last_error = :reason
WHERE submission_id = ANY(CAST(:ids AS bigint[])) AND state = 'leased' AND token = :token
"""

_EXPIRED = """
DELETE FROM ingest.lease WHERE token IN (
    SELECT token FROM ingest.lease WHERE lease_until < now() ORDER BY lease_until
    LIMIT :max_leases FOR UPDATE SKIP LOCKED)
RETURNING token, submission_ids
"""

_TAKE_BACK = """
WITH back AS (
    UPDATE ingest.work
    SET state = CASE WHEN num_solo_attempts >= :max_solo THEN 'quarantined' ELSE 'ready' END,
        finished_at = CASE WHEN num_solo_attempts >= :max_solo THEN now() END,
        token = NULL, dispatched_at = NULL, last_error = :reason,
        ready_at = now() + make_interval(
            secs => least(:max_backoff_s, :backoff_s * 2 ^ least(num_attempts - 1, 62)))
    WHERE submission_id = ANY(CAST(:ids AS bigint[])) AND state = 'leased' AND token = :token
    RETURNING submission_id, state, num_solo_attempts
), set_aside AS (
    INSERT INTO ingest.quarantine (submission_id, door, reason, detail)
    SELECT submission_id, 'worker', :reason,
           format('%s attempts alone; the last: %s', num_solo_attempts, CAST(:detail AS text))
    FROM back WHERE state = 'quarantined'
)
SELECT count(*) FILTER (WHERE state = 'ready') AS num_ready,
       count(*) FILTER (WHERE state = 'quarantined') AS num_quarantined FROM back
"""

# Only items that have a champion can be scored; the others wait without being dispatched. What was ready
# first goes first: what comes back again and again never keeps the rest waiting.
_DUE = """
WITH due AS (
    SELECT w.submission_id FROM ingest.work w
    WHERE w.state = 'ready' AND w.ready_at <= now()
      AND (w.dispatched_at IS NULL OR w.dispatched_at < now() - make_interval(secs => :stale_s))
      AND w.item_id IN (SELECT item_id FROM model.alias WHERE alias = 'champion')
    ORDER BY w.ready_at, w.submission_id LIMIT :max_rows FOR UPDATE SKIP LOCKED)
UPDATE ingest.work w SET dispatched_at = now() FROM due WHERE w.submission_id = due.submission_id
RETURNING w.submission_id, w.item_id
"""


def claim(
    connection: Connection, ids: Sequence[int], *, worker: str, policy: LeasePolicy, attempt: int = 1
) -> Claim:
    """Take submissions for this worker; those already done, leased or not yet due are left out.

    Args:
        connection: an open transaction.
        ids: the submissions a message names.
        worker: name of the claiming process.
        policy: the lease's length and the size of a group of suspects.
        attempt: 1 takes fresh submissions; 2 takes a group of suspects; 3 takes one suspect, alone.

    Returns:
        The claim, empty when nothing was left to take.
    """
    token = uuid4()
    rows = connection.execute(
        text(_CLAIM),
        {
            "ids": list(ids),
            "token": token,
            "worker": worker,
            "lease_s": policy.lease_s,
            "min_attempts": attempt - 1,
            "max_attempts": attempt - 1 if attempt < 3 else 32767,
            "max_rows": {1: len(ids), 2: policy.suspect_group}.get(attempt, 1),
            "solo": int(attempt >= 3),
        },
    ).all()
    return Claim(
        token=token,
        submission_ids=[row.submission_id for row in rows],
        item_ids=[row.item_id for row in rows],
        texts=[row.text for row in rows],
        is_solo=attempt >= 3,
    )


def renew(connection: Connection, tokens: Sequence[UUID], *, policy: LeasePolicy) -> set[UUID]:
    """Prolong leases; returns the tokens that still hold, so that a lost claim can be dropped early."""
    rows = connection.execute(text(_RENEW), {"tokens": list(tokens), "lease_s": policy.lease_s})
    return {row.token for row in rows}


def finish(connection: Connection, token: UUID, ids: Sequence[int], scores: ScoreColumns) -> int:
    """End a claim: write scores and mark done, in one statement, what is still leased under its token.

    Returns:
        How many submissions were finished; fewer than `ids` means that the lease had been lost for some.
    """
    done = connection.execute(
        text(_FINISH),
        {
            "ids": list(ids),
            "token": token,
            "engine": scores.engine,
            "submission_id": scores.submission_id,
            "trait": scores.trait,
            "scorer_id": scores.scorer_id,
            "role": scores.role,
            "level": scores.level,
            "probabilities": [_array_literal(row) for row in scores.probabilities],
            "confidence": scores.confidence,
            "condition_code": scores.condition_code,
            "needs_review": scores.needs_review,
        },
    )
    return int(done.scalar_one())


def give_back(connection: Connection, claimed: Claim, *, reason: str, delay_s: float = 0.0) -> None:
    """Return a claim unused: the attempt does not count, because the submissions did nothing wrong."""
    give_back_some(connection, claimed, claimed.submission_ids, reason=reason, delay_s=delay_s)
    _drop_lease(connection, claimed.token)


def give_back_some(
    connection: Connection,
    claimed: Claim,
    ids: Sequence[int],
    *,
    reason: str,
    delay_s: float = 0.0,
) -> None:
    """Return part of a claim unused; the lease goes on for the rest."""
    connection.execute(
        text(_GIVE_BACK),
        {
            "ids": list(ids),
            "token": claimed.token,
            "reason": reason,
            "delay_s": delay_s,
            "solo": int(claimed.is_solo),
        },
    )


def fail(connection: Connection, claimed: Claim, *, reason: str, detail: str, policy: LeasePolicy) -> Sweep:
    """Return a claim after a failed attempt: its submissions are suspects from now on.

    A submission that has failed alone often enough is quarantined instead.
    """
    returned = _take_back(
        connection, claimed.token, claimed.submission_ids, reason=reason, detail=detail, policy=policy
    )
    _drop_lease(connection, claimed.token)
    return returned


def sweep(connection: Connection, *, policy: LeasePolicy, max_leases: int = 200) -> Sweep:
    """Take back what vanished workers held; a submission that keeps killing its process is quarantined."""
    num_expired = num_quarantined = 0
    for lease in connection.execute(text(_EXPIRED), {"max_leases": max_leases}).all():
        returned = _take_back(
            connection,
            lease.token,
            lease.submission_ids,
            reason="worker_vanished",
            detail="its process ended or stopped answering",
            policy=policy,
        )
        num_expired += returned.num_expired
        num_quarantined += returned.num_quarantined
    return Sweep(num_expired=num_expired, num_quarantined=num_quarantined)


def take_due(connection: Connection, *, stale_s: float, max_rows: int = 50_000) -> list[tuple[int, str]]:
    """Mark as dispatched, and return, what needs a message: never sent, or sent long enough ago to be lost.

    Returns:
        Pairs of submission id and item id, in the order of submission.
    """
    rows = connection.execute(text(_DUE), {"stale_s": stale_s, "max_rows": max_rows}).all()
    return sorted((row.submission_id, row.item_id) for row in rows)


def forget_dispatch(connection: Connection, ids: Sequence[int]) -> None:
    """Undo `take_due` for messages that could not be sent."""
    connection.execute(
        text("""
            UPDATE ingest.work SET dispatched_at = NULL
            WHERE submission_id = ANY(CAST(:ids AS bigint[])) AND state = 'ready'
        """),
        {"ids": list(ids)},
    )


def _take_back(
    connection: Connection, token: UUID, ids: Sequence[int], *, reason: str, detail: str, policy: LeasePolicy
) -> Sweep:
    row = connection.execute(
        text(_TAKE_BACK),
        {
            "ids": list(ids),
            "token": token,
            "reason": reason,
            "detail": detail,
            "max_solo": policy.max_solo_attempts,
            "backoff_s": policy.backoff_s,
            "max_backoff_s": policy.max_backoff_s,
        },
    ).one()
    return Sweep(num_expired=row.num_ready, num_quarantined=row.num_quarantined)


def _drop_lease(connection: Connection, token: UUID) -> None:
    connection.execute(text("DELETE FROM ingest.lease WHERE token = :token"), {"token": token})


def _array_literal(values: list[float] | None) -> str | None:
    # unnest() flattens arrays of arrays, so each inner array travels as its literal.
    return None if values is None else "{" + ",".join(f"{value:.6g}" for value in values) + "}"
