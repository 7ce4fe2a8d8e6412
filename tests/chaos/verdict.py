"""What a run ends with: the senders' list against the ledger, and the figures of the promise."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import text

from tests.chaos.perils import num_tallied
from tests.chaos.senders import SOURCE

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Connection

    from tests.chaos.senders import Sent

#: How long after its fall a scorer may still be written: a claim in hand is scored from one roster, and
#: its commit may wait for Postgres.
GRACE_S = 12.0

_DOUBLE = """
SELECT count(*) FROM (SELECT 1 FROM score.machine_score WHERE role = 'champion'
                      GROUP BY submission_id, trait HAVING count(*) > 1) d
"""

# A score is by the wrong scorer if it is another item's, or was not champion at any moment shortly before.
_WRONG_SCORER = """
WITH reign AS (
    SELECT subject AS item_id, CAST(detail->'after'->>'champion' AS bigint) AS scorer_id, at AS since,
           lead(at) OVER (PARTITION BY subject ORDER BY audit_id) AS until
    FROM score.audit WHERE detail->'after' ? 'champion'
)
SELECT count(*) FROM score.machine_score m JOIN ingest.submission s USING (submission_id)
WHERE NOT EXISTS (
    SELECT FROM reign r WHERE r.item_id = s.item_id AND r.scorer_id = m.scorer_id AND r.since <= m.scored_at
      AND (r.until IS NULL OR r.until + make_interval(secs => :grace_s) > m.scored_at))
"""

_INCOMPLETE = """
SELECT count(*) FROM ingest.work w WHERE w.state = 'done' AND (
    SELECT count(DISTINCT m.trait) FROM score.machine_score m WHERE m.submission_id = w.submission_id)
    <> (SELECT count(*) FROM model.trait t WHERE t.item_id = w.item_id)
"""


@dataclass(slots=True)
class Verdict:
    """The figures of one run, and what was found wrong with it."""

    figures: dict[str, object]
    wrongs: list[str] = field(default_factory=list)


def missing(connection: Connection, sent: Sent) -> set[str]:
    """Response ids that were sent and are not in the ledger."""
    rows = connection.execute(
        text("SELECT response_id FROM ingest.submission WHERE source = :source"), {"source": SOURCE}
    )
    known = {row.response_id for row in rows}
    return {one for one, door in sent.door.items() if door != "none"} - known


def judge(connection: Connection, sent: Sent, tally: Path, *, never_taken: set[str]) -> Verdict:
    """Compare what was sent with what the ledger has come to.

    Args:
        connection: to the ledger, after everything is drained.
        sent: the senders' list.
        tally: where the engines counted.
        never_taken: what was missing before the senders sent it again, and had no excuse.
    """
    states = {
        row.state: row.num
        for row in connection.execute(text("SELECT state, count(*) AS num FROM ingest.work GROUP BY 1"))
    }
    quarantined = {
        row.response_id
        for row in connection.execute(
            text("""
                SELECT s.response_id FROM ingest.work w JOIN ingest.submission s USING (submission_id)
                JOIN ingest.quarantine q USING (submission_id) WHERE w.state = 'quarantined'
            """)
        )
    }
    num_scored, num_executed = states.get("done", 0), num_tallied(tally)
    num_incomplete = _count(connection, _INCOMPLETE)
    unsettled = states.get("ready", 0) + states.get("leased", 0)
    invisible = states.get("quarantined", 0) - len(quarantined)
    figures: dict[str, object] = {
        "accepted": sum(states.values()),
        "scored": num_scored - num_incomplete,
        "quarantined": len(quarantined),
        "lost": len(never_taken | missing(connection, sent)) + num_incomplete + unsettled + invisible,
        "double": _count(connection, _DOUBLE),
        "wrong_scorer": _count(connection, _WRONG_SCORER, grace_s=GRACE_S),
        "overwritten": _overwritten(connection, sent),
        "wasted_share": round(max(0, num_executed - num_scored) / max(1, num_executed), 4),
    }
    verdict = Verdict(figures)
    for name in ("lost", "double", "wrong_scorer", "overwritten"):
        if figures[name]:
            verdict.wrongs.append(f"{name}: {figures[name]}")
    if never_taken:
        doors = Counter(sent.door[one] for one in never_taken)
        verdict.wrongs.append(f"never taken, by door: {dict(doors)}, such as {sorted(never_taken)[:5]}")
    if quarantined != sent.crashing:
        verdict.wrongs.append(
            f"quarantined: {sorted(quarantined)[:10]} ({len(quarantined)}), crashing: {sorted(sent.crashing)}"
        )
    _judge_refusals(connection, sent, verdict)
    return verdict


def _judge_refusals(connection: Connection, sent: Sent, verdict: Verdict) -> None:
    refused = connection.execute(
        text("SELECT door, reason = 'conflict' AS conflict FROM ingest.quarantine WHERE payload IS NOT NULL")
    ).all()
    figures = {
        "refused_events": sum(row.door == "stream" and not row.conflict for row in refused),
        "refused_elements": sum(row.door == "broker" for row in refused),
        "conflicts": sum(row.conflict for row in refused),
    }
    verdict.figures.update(figures)
    # More than were sent would be a refusal counted twice; fewer is what Redis lost.
    sent_numbers = (sent.num_bad_events, sent.num_bad_elements, sent.num_conflicts)
    for (name, found), most in zip(figures.items(), sent_numbers, strict=True):
        if found > most:
            verdict.wrongs.append(f"{name}: {found}, but only {most} were sent")


def _overwritten(connection: Connection, sent: Sent) -> int:
    rows = connection.execute(text("SELECT response_id, text FROM ingest.submission"))
    return sum(sent.texts.get(row.response_id) != row.text for row in rows)


def _count(connection: Connection, query: str, **values: object) -> int:
    return int(connection.execute(text(query), values).scalar_one())
