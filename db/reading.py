"""Requests for human reads: drawn by a seeded rule, called for by large differences, or asked for by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from sqlalchemy import Connection

#: The first 52 bits of md5(seed:submission) as a number from 0 to 1: any client can draw the same sample.
_DRAW = """
INSERT INTO score.read_request (submission_id, trait, reason, requested_by)
SELECT m.submission_id, m.trait, 'read_behind', :actor
FROM (SELECT DISTINCT m.submission_id, m.trait FROM score.machine_score m WHERE m.role = 'champion') m
JOIN ingest.submission s USING (submission_id)
WHERE (CAST(:batch_id AS bigint) IS NULL OR s.batch_id = :batch_id)
  AND ('x' || substr(md5(:seed || ':' || m.submission_id), 1, 13))::bit(52)::bigint::float8 / 2 ^ 52 < :share
  AND NOT EXISTS (SELECT FROM score.human_score h
                  WHERE h.submission_id = m.submission_id AND h.trait = m.trait AND h.purpose <> 'training')
ON CONFLICT DO NOTHING
"""

_DISAGREEMENTS = """
INSERT INTO score.read_request (submission_id, trait, reason, requested_by)
SELECT DISTINCT p.submission_id, p.trait, 'disagreement', :actor
FROM grader.pairs p
WHERE p.role = 'champion' AND p.purpose IN ('first', 'read_behind') AND p.difference >= :least
  AND NOT EXISTS (SELECT FROM score.human_score h
                  WHERE h.submission_id = p.submission_id AND h.trait = p.trait
                    AND h.purpose IN ('second', 'adjudication', 'appeal'))
ON CONFLICT DO NOTHING
"""

_ASK = """
INSERT INTO score.read_request (submission_id, trait, reason, requested_by)
SELECT s.submission_id, t.trait, :reason, :actor
FROM ingest.submission s JOIN model.trait t USING (item_id)
WHERE s.submission_id = :submission_id
ON CONFLICT (submission_id, trait, reason)
    DO UPDATE SET requested_at = now(), requested_by = excluded.requested_by
"""


def draw_read_behind(
    connection: Connection, *, share: float, seed: int, actor: str, batch_id: int | None = None
) -> int:
    """Ask for a random share of the machine-scored answers that nobody has read.

    Whether an answer is drawn depends on the seed and its number only: a larger share holds the smaller one,
    and drawing again adds nothing.

    Args:
        connection: an open transaction.
        share: from 0 to 1.
        seed: another one draws another sample.
        actor: who asks.
        batch_id: one batch only.

    Returns:
        How many requests are new, one a trait.
    """
    found = connection.execute(
        text(_DRAW), {"share": share, "seed": str(seed), "actor": actor, "batch_id": batch_id}
    )
    return found.rowcount


def ask_about_disagreements(connection: Connection, *, actor: str, least: int = 2) -> int:
    """Ask for another read where a person and the champion are `least` or more levels apart.

    Returns:
        How many requests are new, one a trait.
    """
    return connection.execute(text(_DISAGREEMENTS), {"actor": actor, "least": least}).rowcount


def ask(connection: Connection, submission_id: int, *, reason: str, actor: str) -> int:
    """Ask for a read of one answer, in all its traits; asked again, it counts from now.

    Returns:
        How many traits the answer has; 0 if there is no such answer.
    """
    return connection.execute(
        text(_ASK), {"submission_id": submission_id, "reason": reason, "actor": actor}
    ).rowcount
