"""What follows from a trial: scorers registered, a proposal written, its shadow begun or a reason given.

Everything here belongs to one transaction of the caller, which only the holder of the run's lease can make.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from db import leases, merge_steps, merges, registry, trainings
from db.merge_steps import MergeError
from db.merges import MemberRecord, ProposalRecord, Word
from scoring.errors import PermanentError
from scoring.evaluation.gates import Verdict
from workers.evaluating import plain
from workers.merging.planning import margin
from workers.records import stored_record
from workers.telemetry import get_logger

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection

    from db.gw_runs import GwRunClaim
    from scoring.evaluation.policy import MergingPolicy
    from scoring.merging.evidence import Comparison, ItemEvidence
    from workers.merging.neighbours import Neighbourhood, Pair
    from workers.merging.trial import Trial, TrialMember

log = get_logger("merging")

#: Who proposes, and who decides where a policy does.
NIGHTLY, POLICY = "nightly", "policy"


@dataclass(frozen=True, slots=True)
class Proposed:
    """One trial's outcome as it stands in the tables."""

    merge_proposal_id: int
    kind: str
    items: tuple[str, ...]
    state: str
    method: str
    verdict: str
    #: Mean over items of the change of QWK; None where nothing was held out.
    qwk_change: float | None
    reason: str


def conclude(
    connection: Connection,
    claimed: GwRunClaim,
    trial: Trial,
    near: Neighbourhood,
    *,
    others: Mapping[str, Mapping[Pair, float]],
    policy: MergingPolicy,
) -> Proposed:
    """Register a trial's scorers and write its proposal, proposed, in shadow or rejected at once.

    Args:
        connection: an open transaction.
        claimed: the run; held here.
        trial: what came of the group.
        near: tonight's distances.
        others: the group's pairs by other criteria, to be kept beside the loss that followed.
        policy: what a merge may lose.

    Raises:
        LeaseLostError: the run belongs to another process by now.
        PermanentError: answers of the trial were erased meanwhile: nothing of it may stay.
    """
    leases.hold(connection, claimed.lease)
    scorers = {
        one.standing.item_id: _register(connection, trial, place) for place, one in enumerate(trial.members)
    }
    record = _proposal(trial, near, claimed.gw_run_id, scorers=scorers, others=others)
    number = merges.add(connection, record, word=Word(NIGHTLY, _why(trial, near)))
    state, reason = "proposed", _why(trial, near)
    held = merge_steps.hold(connection, number)
    if refusal := refused(trial, policy):
        state, reason = "rejected", refusal
        merge_steps.end(connection, held, "rejected", word=Word(POLICY, refusal))
    elif policy.starts_shadow:
        try:
            merge_steps.start_shadow(connection, held, word=Word(POLICY, "every proposal starts as shadow"))
            state = "shadow"
        except MergeError as error:
            reason = str(error)
    log.info("merge_tried", proposal=number, items=list(record.items), state=state, verdict=record.verdict)
    change = trial.evidence.changes["qwk"].value
    return Proposed(
        number,
        record.kind,
        record.items,
        state,
        record.method,
        record.verdict,
        None if math.isnan(change) else change,
        reason,
    )


def refused(trial: Trial, policy: MergingPolicy) -> str | None:
    """Why a trial is not worth anybody's time; None where it is."""
    change = trial.evidence.changes["qwk"]
    if trial.plan.kind == "split":
        # The distance alone does not part what serves well.
        worse = not math.isnan(change.value) and change.value < 0
        return f"the items' own scorers lose {-change.value:.3f} of QWK on the mean" if worse else None
    if trial.evidence.verdict is Verdict.FAIL:
        lost = [
            f"{one.item_id} ({check.reason})"
            for one in trial.evidence.items
            for check in one.judgement.checks
            if check.verdict is Verdict.FAIL
        ]
        return f"an item loses more than {policy.max_qwk_loss:.3f} of QWK for certain: {'; '.join(lost)}"
    if change.value < -policy.max_mean_qwk_loss:
        return (
            f"loses {-change.value:.3f} of QWK on the mean, at most {policy.max_mean_qwk_loss:.3f} is wanted"
        )
    return None


def _why(trial: Trial, near: Neighbourhood) -> str:
    plan = trial.plan
    told = f"{near.criterion} {plan.distance:.4f}, {plan.distance_rank} of {near.num_compared} pairs"
    floors = margin(plan.distance, near, plan.items) if near.criterion == "gw" else None
    nearer = "" if floors is None else f", nearer than the middle pair by {floors:.1f} noise floors"
    return f"have drifted apart: {told}" if plan.kind == "split" else f"{told}{nearer}"


def _register(connection: Connection, trial: Trial, place: int) -> int:
    member = trial.members[place]
    stored = trial.stored
    if stored is None:
        return member.standing.served.own
    run = _record_training(connection, trial, member)
    record = stored_record(
        member.standing.item_id,
        stored.scorer_keys[place],
        stored.extractor_key,
        stored.extractor,
        num_bytes=stored.num_bytes,
        metrics=_metrics(trial.evidence.items[place]),
        training_run_id=run,
    )
    number = registry.register_scorer(connection, record)
    merges.set_parents(connection, stored.extractor_key, stored.extractor.parents)
    return number


def _record_training(connection: Connection, trial: Trial, member: TrialMember) -> int:
    """A merge is a training of each of its items, and leaves the same lineage; it ends with the scorer."""
    taught = member.member
    data = {
        "items": list(trial.plan.items),
        "num_train": len(taught.train),
        "num_validation": len(taught.validation),
        "num_unread": len(taught.unread),
    }
    item_id, config = member.standing.item_id, {"method": trial.method}
    run = registry.start_training(connection, item_id, trigger="merge", config=config, data=data)
    if not trainings.add_lineage(connection, run, member.folds):
        raise PermanentError(f"item {item_id}: answers were erased while the group was tried")
    return run


def _metrics(evidence: ItemEvidence) -> dict[str, Any]:
    """As a training tells them: by trait, on the held-out answers."""
    return {"test": plain(evidence.traits), "num_test": evidence.num_answers}


def _proposal(
    trial: Trial,
    near: Neighbourhood,
    gw_run_id: int,
    *,
    scorers: Mapping[str, int],
    others: Mapping[str, Mapping[Pair, float]],
) -> ProposalRecord:
    plan, evidence = trial.plan, trial.evidence
    before, after = _bytes(trial)
    floors = [floor for name in plan.items if (floor := near.noise_floors.get(name)) is not None]
    pairs = {" + ".join(pair): value for pair, value in near.within(plan.items).items()}
    return ProposalRecord(
        gw_run_id=gw_run_id,
        kind=plan.kind,
        items=plan.items,
        criterion=near.criterion,
        method=trial.method,
        extractor_key=None if trial.stored is None else trial.stored.extractor_key,
        distance=plan.distance,
        distance_rank=plan.distance_rank,
        num_pairs=near.num_compared,
        noise_floor=max(floors, default=None),
        num_extractors_saved=len(before) - len(after),
        num_bytes_before=sum(before.values()),
        num_bytes_after=sum(after.values()),
        verdict=evidence.verdict.value,
        evidence={
            "changes": plain(dict(evidence.changes)),
            "dissimilarities": {
                near.criterion: pairs,
                **{
                    name: {" + ".join(pair): value for pair, value in found.items()}
                    for name, found in others.items()
                },
            },
            "margin": margin(plan.distance, near, plan.items),
        },
        alternatives=[{"items": list(items), "distance": value} for items, value in plan.alternatives],
        members=tuple(
            _member(one, member, scorers[one.item_id])
            for one, member in zip(evidence.items, trial.members, strict=True)
        ),
    )


def _bytes(trial: Trial) -> tuple[dict[str, int], dict[str, int]]:
    """Extractors that serve the group now, and those that would, each with its bytes on disk."""
    served = [one.standing.served for one in trial.members]
    before = {one.extractor_key: one.num_bytes for one in served}
    if trial.stored is None:
        return before, {one.own_extractor_key: one.own_num_bytes for one in served}
    return before, {trial.stored.extractor_key: trial.stored.num_bytes}


def _member(evidence: ItemEvidence, member: TrialMember, scorer_after: int) -> MemberRecord:
    qwk: Comparison = evidence.figures["qwk"]
    told = plain({"before": qwk.before, "after": qwk.after, "change": qwk.change})
    return MemberRecord(
        item_id=evidence.item_id,
        scorer_before=member.standing.served.champion,
        scorer_after=scorer_after,
        num_answers=evidence.num_answers,
        qwk_before=told["before"],
        qwk_after=told["after"],
        qwk_change_low=told["change"]["low"],
        qwk_change_high=told["change"]["high"],
        verdict=evidence.judgement.verdict.value,
        figures={
            **plain(dict(evidence.figures)),
            "checks": plain(evidence.judgement.checks),
        },
    )
