"""The gates: a report held against a policy, check by check; "too few answers to judge" is an answer.

Figures come in, verdicts go out. The room moves no alias: what follows from a verdict is decided elsewhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from scoring.evaluation.report import NO_FIGURE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from scoring.evaluation.policy import AgreementPolicy, Policy
    from scoring.evaluation.report import Figure, ItemReport, TraitReport

#: A figure that stands on its threshold keeps it, whatever the last bit says.
_ROUNDING = 1e-9


class Verdict(StrEnum):
    """What a check or a gate says."""

    PASS = "pass"  # noqa: S105 (no password)
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class Check:
    """One figure held against its threshold; `reason` is a sentence for people."""

    name: str
    trait: str
    verdict: Verdict
    figure: Figure
    threshold: float
    reason: str
    is_required: bool


@dataclass(frozen=True, slots=True)
class _Rule:
    """What a check is made of; `margin` is negative where the threshold is missed."""

    name: str
    figure: Figure
    threshold: float
    margin: float
    min_answers: int
    group: str = ""


@dataclass(frozen=True, slots=True)
class Judgement:
    """All checks of one scorer, and what they come to."""

    verdict: Verdict
    checks: tuple[Check, ...]


def judge(report: ItemReport, policy: Policy, *, changes: Mapping[str, Figure] | None = None) -> Judgement:
    """Hold a scorer's agreement against the policy.

    Any check that fails, fails the scorer. It passes if nothing fails and every required check of every trait
    passes; where one of those has too little evidence the verdict is "inconclusive".

    Args:
        report: the scorer's agreement with people.
        policy: the thresholds.
        changes: for a challenger, the change of QWK against the champion by trait; each is required.
    """
    thresholds = policy.agreement_of(report.item_id)
    checks = [check for trait in report.traits for check in _agreement_checks(trait, thresholds, policy)]
    for trait, change in (changes or {}).items():
        checks.append(_change_check(trait, change, policy))
    return Judgement(overall(checks), tuple(checks))


def overall(checks: Sequence[Check]) -> Verdict:
    """What several checks come to; without any there is nothing to judge by."""
    if any(check.verdict is Verdict.FAIL for check in checks):
        return Verdict.FAIL
    required = [check for check in checks if check.is_required]
    if required and all(check.verdict is Verdict.PASS for check in required):
        return Verdict.PASS
    return Verdict.INCONCLUSIVE


def _agreement_checks(trait: TraitReport, thresholds: AgreementPolicy, policy: Policy) -> Iterator[Check]:
    qwk, smd = (trait.figures.get(name, NO_FIGURE) for name in ("qwk", "smd"))
    human, needed = trait.human_qwk or NO_FIGURE, policy.evidence
    rules = [
        _Rule("qwk", qwk, thresholds.min_qwk, qwk.value - thresholds.min_qwk, needed.min_answers),
        _Rule(
            "smd",
            smd,
            thresholds.max_abs_smd,
            thresholds.max_abs_smd - abs(smd.value),
            needed.min_answers,
        ),
    ]
    # Of two figures: the one that is known less well decides whether there is enough to judge by.
    is_known = qwk.num_answers >= needed.min_answers
    rules.append(
        _Rule(
            "qwk_below_human",
            human if is_known else qwk,
            thresholds.max_qwk_below_human,
            thresholds.max_qwk_below_human - (human.value - qwk.value),
            needed.min_double_reads if is_known else needed.min_answers,
        )
    )
    # Without a group there is still a check to be missed where the policy requires one.
    for label, dsm in [(f"{one.grouping}={one.group}", one.dsm) for one in trait.groups] or [("", NO_FIGURE)]:
        margin = thresholds.max_abs_dsm - abs(dsm.value)
        rules.append(_Rule("dsm", dsm, thresholds.max_abs_dsm, margin, needed.min_group_answers, label))
    for rule in rules:
        is_required = rule.name in thresholds.required
        if rule.figure.num_answers or is_required:
            yield _held(rule, trait.trait, is_required=is_required)


def _held(rule: _Rule, trait: str, *, is_required: bool) -> Check:
    num_answers = rule.figure.num_answers
    if num_answers < rule.min_answers:
        verdict, reason = Verdict.INCONCLUSIVE, f"{num_answers} answers, {rule.min_answers} are needed"
    elif math.isnan(rule.margin):
        verdict, reason = Verdict.INCONCLUSIVE, "not defined on these answers"
    elif rule.margin < -_ROUNDING:
        verdict, reason = Verdict.FAIL, f"misses the threshold by {-rule.margin:.3f}"
    else:
        verdict, reason = Verdict.PASS, f"keeps the threshold by {abs(rule.margin):.3f}"
    name = f"{rule.name} {rule.group}".rstrip()
    return Check(name, trait, verdict, rule.figure, rule.threshold, reason, is_required)


def _change_check(trait: str, change: Figure, policy: Policy) -> Check:
    """Not worse than the champion by more than the margin, judged by the interval (non-inferiority)."""
    allowed, needed = policy.comparison.max_qwk_loss, policy.evidence.min_answers
    if change.num_answers < needed:
        verdict, reason = Verdict.INCONCLUSIVE, f"{change.num_answers} answers, {needed} are needed"
    elif math.isnan(change.low):
        verdict, reason = Verdict.INCONCLUSIVE, "not defined on these answers"
    elif change.low >= -allowed:
        verdict, reason = Verdict.PASS, f"at worst {change.low:+.3f} against the champion"
    elif change.high < -allowed:
        verdict, reason = Verdict.FAIL, f"at best {change.high:+.3f} against the champion"
    else:
        verdict = Verdict.INCONCLUSIVE
        reason = f"between {change.low:+.3f} and {change.high:+.3f} against the champion"
    return Check("qwk_change", trait, verdict, change, -allowed, reason, is_required=True)
