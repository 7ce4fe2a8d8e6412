"""What a merge costs: both scorers of each item on the same held-out answers, with paired intervals.

Levels come in as tables, figures and a verdict go out. Who the scorers are and how the merge was made is not
known here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from scoring.evaluation import agreement, labels
from scoring.evaluation.gates import Judgement, Verdict, judge, overall
from scoring.evaluation.report import NO_FIGURE, Figure, ItemReport
from scoring.training.evaluation import trait_agreement

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from scoring.evaluation.policy import Policy
    from scoring.evaluation.resampling import Bootstrap
    from scoring.types import Trait, TraitMetrics

    Levels = NDArray[np.int64]
    Floats = NDArray[np.float64]

#: In this order everywhere. Per-label accuracy hides a collapse (predicting no label at all scores high), so
#: that it is shown and decides nothing.
FIGURES = ("qwk", "micro_f1", "macro_f1", "exact_match", "per_label_accuracy")


@dataclass(frozen=True, slots=True, eq=False)
class PairedLevels:
    """One item's held-out answers: levels by both scorers and by people, all [num_answers, num_traits]."""

    item_id: str
    traits: Sequence[Trait]
    before: Levels
    after: Levels
    human: Levels

    def __len__(self) -> int:
        return len(self.human)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One figure of both scorers, and its change (after less before) with a paired bootstrap interval."""

    before: float
    after: float
    change: Figure


@dataclass(frozen=True, slots=True, eq=False)
class ItemEvidence:
    """One item's part: every figure, and the policy's word on the change of QWK.

    Attributes:
        figures: by name, in the order of FIGURES; over traits where there are several
        judgement: non-inferiority, trait by trait
        resampled: change of each figure in each resample [num_resamples], for means over items
        traits: the new scorer's agreement trait by trait, as a training tells it; none without answers
    """

    item_id: str
    num_answers: int
    figures: Mapping[str, Comparison]
    judgement: Judgement
    resampled: Mapping[str, Floats]
    traits: tuple[TraitMetrics, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class GroupEvidence:
    """A group's items, and the mean change of each figure over them."""

    items: tuple[ItemEvidence, ...]
    changes: Mapping[str, Figure]
    verdict: Verdict


def compare(items: Sequence[PairedLevels], policy: Policy) -> GroupEvidence:
    """Measure a merge.

    Micro F1 is taken over the labels of a multi-label item; on an item with levels it is taken over levels,
    where it equals the share of right levels. Macro F1 is the mean over labels, or over levels, then traits.

    Args:
        items: each item's held-out answers.
        policy: how intervals are made, how many answers a verdict needs, and what a merge may lose.
    """
    bootstrap = policy.evidence.bootstrap()
    # A seed for each item: equal draws for all would correlate what is independent.
    found = tuple(
        _item_evidence(one, policy, replace(bootstrap, seed=bootstrap.seed + place))
        for place, one in enumerate(items)
    )
    checks = [check for one in found for check in one.judgement.checks]
    return GroupEvidence(
        found, {name: mean_change(found, name, bootstrap) for name in FIGURES}, overall(checks)
    )


def mean_change(items: Sequence[ItemEvidence], name: str, bootstrap: Bootstrap) -> Figure:
    """Mean over items of a figure's change; items on which it is not defined are left out."""
    told = [one for one in items if not np.isnan(one.figures[name].change.value)]
    if not told:
        return NO_FIGURE
    value = float(np.mean([one.figures[name].change.value for one in told]))
    low, high = bootstrap.interval(np.mean([one.resampled[name] for one in told], axis=0))
    return Figure(value, low, high, sum(one.num_answers for one in told))


def _item_evidence(pair: PairedLevels, policy: Policy, bootstrap: Bootstrap) -> ItemEvidence:
    if not len(pair):
        nothing = Comparison(NO_FIGURE.value, NO_FIGURE.value, NO_FIGURE)
        changes = {trait.name: NO_FIGURE for trait in pair.traits}
        return ItemEvidence(
            pair.item_id, 0, dict.fromkeys(FIGURES, nothing), _judged(pair, changes, policy), {}
        )
    rows, counts = bootstrap.draw(np.hstack([pair.before, pair.after, pair.human]))
    before, after, human = np.split(rows, 3, axis=1)
    figures, resampled = {}, {}
    for name in FIGURES:
        old, new = _both(name, pair.traits, before, after, human, counts)
        figures[name] = _comparison(old, new, len(pair), bootstrap)
        resampled[name] = (new - old)[1:]
    changes = {}
    for at, trait in enumerate(pair.traits):
        old, new = (_qwks(trait, levels[:, at], human[:, at], counts) for levels in (before, after))
        changes[trait.name] = _comparison(old, new, len(pair), bootstrap).change
    judgement = _judged(pair, changes, policy)
    return ItemEvidence(pair.item_id, len(pair), figures, judgement, resampled, _after_by_trait(pair))


def _after_by_trait(pair: PairedLevels) -> tuple[TraitMetrics, ...]:
    return tuple(
        trait_agreement(trait.name, pair.after[:, at], pair.human[:, at])
        for at, trait in enumerate(pair.traits)
    )


def _judged(pair: PairedLevels, changes: Mapping[str, Figure], policy: Policy) -> Judgement:
    """Non-inferiority alone: whether the item was good enough before is not the merge's business."""
    margin = policy.comparison.model_copy(update={"max_qwk_loss": policy.merging.max_qwk_loss})
    nothing = ItemReport(pair.item_id, len(pair), traits=(), figures={})
    return judge(nothing, policy.model_copy(update={"comparison": margin}), changes=changes)


def _comparison(before: Floats, after: Floats, num_answers: int, bootstrap: Bootstrap) -> Comparison:
    change = after - before
    low, high = bootstrap.interval(change[1:])
    return Comparison(float(before[0]), float(after[0]), Figure(float(change[0]), low, high, num_answers))


def _both(
    name: str, traits: Sequence[Trait], before: Levels, after: Levels, human: Levels, counts: Levels
) -> tuple[Floats, Floats]:
    """One figure of both scorers, a value a resample."""
    old, new = (_parts(name, traits, levels, human, counts) for levels in (before, after))
    if len(old) == 1:
        return old[0], new[0]
    # A label that one scorer never gives has no kappa there: the means are to be over the same traits.
    defined = ~(np.isnan(old) | np.isnan(new))
    return _mean_of(old, defined), _mean_of(new, defined)


def _parts(name: str, traits: Sequence[Trait], machine: Levels, human: Levels, counts: Levels) -> Floats:
    """What a figure is the mean of, a value a resample: a row for each trait, or one for all of them."""
    if name in _OVER_TRAITS:
        return _OVER_TRAITS[name](machine, human, counts)[None]
    if len(traits) > 1 and all(trait.num_levels == 2 for trait in traits):
        if name == "micro_f1":
            return labels.micro_f1s(machine, human, counts)[None]
        if name == "macro_f1":
            return labels.label_f1s(machine, human, counts).T
    elif name == "micro_f1":
        return labels.per_label_accuracies(machine, human, counts)[None]
    of_trait = _qwks if name == "qwk" else _macro_f1s
    return np.stack(
        [of_trait(trait, machine[:, at], human[:, at], counts) for at, trait in enumerate(traits)]
    )


def _qwks(trait: Trait, machine: Levels, human: Levels, counts: NDArray[np.int64]) -> Floats:
    return agreement.quadratic_weighted_kappas(
        agreement.agreement_tables(machine, human, counts, num_levels=trait.num_levels)
    )


def _macro_f1s(trait: Trait, machine: Levels, human: Levels, counts: NDArray[np.int64]) -> Floats:
    return agreement.macro_f1s(
        agreement.agreement_tables(machine, human, counts, num_levels=trait.num_levels)
    )


def _mean_of(rows: Floats, defined: NDArray[np.bool_]) -> Floats:
    """Mean of what is defined in each column; nan where nothing is."""
    num_defined = defined.sum(axis=0)
    total = np.where(defined, rows, 0).sum(axis=0)
    return np.where(num_defined > 0, total / np.maximum(num_defined, 1), np.nan)


_OVER_TRAITS: Mapping[str, Callable[[Levels, Levels, Levels], Floats]] = {
    "exact_match": labels.exact_matches,
    "per_label_accuracy": labels.per_label_accuracies,
}
