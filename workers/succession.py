"""What follows from a verdict: the challenger is registered, and becomes champion, shadow or nothing more.

Everything here belongs to one transaction of the caller, which only the holder of the run's lease can make.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from db import aliases, leases, registry, retraining
from db.retraining import Outcome
from scoring.evaluation.gates import Verdict
from workers.evaluating import plain
from workers.records import trained_record
from workers.telemetry import get_logger

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from db.retraining import RunClaim
    from scoring.evaluation.policy import Policy
    from workers.challenge import Challenger, Defender

log = get_logger("succession")

#: Who moves aliases when a policy does.
ACTOR = "policy"


@dataclass(frozen=True, slots=True)
class Retrained:
    """One item's outcome: a judged scorer, or the reason why there is none."""

    item_id: str
    trigger: str
    training_run_id: int
    scorer_id: int | None = None
    verdict: str | None = None
    decision: str | None = None
    error: str | None = None


def conclude(
    connection: Connection, claimed: RunClaim, challenger: Challenger, defender: Defender, policy: Policy
) -> Retrained:
    """Register a challenger, move the alias that its verdict earns, and write the run's end.

    Raises:
        LeaseLostError: the run belongs to another process by now.
    """
    leases.hold(connection, claimed.lease)
    item_id, verdict = str(challenger.training.item_id), challenger.judgement.verdict
    scorer_id = registry.register_scorer(
        connection, trained_record(challenger.training, claimed.training_run_id)
    )
    aliases.hold(connection)
    standing = aliases.aliases_of(connection, [item_id])[item_id]
    decision = decide(verdict, policy, has_shadow="shadow" in standing)
    if scorer_id == defender.scorer_id or standing.get("champion") != defender.scorer_id:
        # It is the champion itself, or was measured against one that serves no more.
        decision = "registered"
    reason = f"training run {claimed.training_run_id} ({claimed.trigger}): {verdict.value}"
    if decision == "champion":
        aliases.promote(connection, [scorer_id], actor=ACTOR, reason=reason)
    elif decision == "shadow":
        aliases.set_shadow(connection, scorer_id, actor=ACTOR, reason=reason)
    evidence = {"checks": plain(challenger.judgement.checks), "report": plain(challenger.report)}
    evidence["champion"] = defender.scorer_id
    retraining.conclude(connection, claimed, Outcome(verdict.value, decision, evidence))
    log.info("retrained", item=item_id, scorer=scorer_id, verdict=verdict.value, decision=decision)
    return Retrained(item_id, claimed.trigger, claimed.training_run_id, scorer_id, verdict.value, decision)


def decide(verdict: Verdict, policy: Policy, *, has_shadow: bool) -> str:
    """What becomes of a challenger: "champion", "shadow" or "registered".

    A verdict of "inconclusive" never takes the place of a shadow that is gathering evidence.
    """
    if verdict is Verdict.PASS:
        return policy.retraining.on_pass
    if verdict is Verdict.INCONCLUSIVE and not has_shadow:
        return policy.retraining.on_inconclusive
    return "registered"
