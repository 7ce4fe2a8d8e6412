"""One item's agreement, figure by figure, each with the number of answers behind it and an interval.

Reads come in, a report goes out. Figures are told here and judged elsewhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scoring.evaluation import agreement, labels
from scoring.evaluation.groups import differences_of_standardised_means
from scoring.evaluation.resampling import Bootstrap

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from scoring.evaluation.reads import Reads

    Levels = NDArray[np.int64]
    Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Figure:
    """A value with its bootstrap interval; nan where it is not defined on these answers."""

    value: float
    low: float
    high: float
    num_answers: int


#: What stands where there is no answer to measure.
NO_FIGURE = Figure(math.nan, math.nan, math.nan, 0)


@dataclass(frozen=True, slots=True)
class LevelAgreement:
    """One level: how often people and the machine gave it, and how often both did."""

    level: int
    num_human: int
    num_machine: int
    num_both: int


@dataclass(frozen=True, slots=True)
class GroupFigure:
    """One group of students: difference of standardised means, positive where the machine favours it."""

    grouping: str
    group: str
    dsm: Figure


@dataclass(frozen=True, slots=True)
class TraitReport:
    """Agreement on one trait; `human_qwk` is None where no answer has been read twice."""

    trait: str
    num_answers: int
    figures: Mapping[str, Figure]
    human_qwk: Figure | None
    levels: tuple[LevelAgreement, ...]
    groups: tuple[GroupFigure, ...]


@dataclass(frozen=True, slots=True)
class ItemReport:
    """Agreement on one item; `figures` speak of answers whose every trait has been read."""

    item_id: str
    num_answers: int
    traits: tuple[TraitReport, ...]
    figures: Mapping[str, Figure]


_OF_TRAIT: Mapping[str, Callable[[Floats], Floats]] = {
    "qwk": agreement.quadratic_weighted_kappas,
    "accuracy": agreement.accuracies,
    "exact_adjacent": agreement.adjacent_agreements,
    "macro_f1": agreement.macro_f1s,
    "smd": agreement.standardised_mean_differences,
}
_OF_ITEM: Mapping[str, Callable[[Levels, Levels, Levels], Floats]] = {
    "exact_match": labels.exact_matches,
    "per_label_accuracy": labels.per_label_accuracies,
}
_OF_LABELS: Mapping[str, Callable[[Levels, Levels, Levels], Floats]] = {
    "micro_f1": labels.micro_f1s,
    "macro_f1": labels.macro_f1s,
}


def evaluate(reads: Reads, bootstrap: Bootstrap | None = None) -> ItemReport:
    """Agreement of machine and people on one item.

    Args:
        reads: the levels.
        bootstrap: how intervals are made.

    Returns:
        per trait QWK, accuracy, exact-adjacent agreement, macro F1, SMD, agreement by level, DSM by group and
        the QWK of two people; over traits exact match and per-label accuracy, and for a multi-label item
        micro and macro F1. Traits that nobody read have no figures.
    """
    bootstrap = bootstrap or Bootstrap()
    traits = tuple(_trait_report(reads, column, bootstrap) for column in range(len(reads.traits)))
    return ItemReport(
        item_id=reads.item_id,
        num_answers=len(reads),
        traits=traits,
        figures=_item_figures(reads, bootstrap),
    )


def _trait_report(reads: Reads, column: int, bootstrap: Bootstrap) -> TraitReport:
    trait, chosen = reads.traits[column], reads.paired(column)
    machine, human = _levels(reads.machine[chosen, column]), _levels(reads.human[chosen, column])
    figures: Mapping[str, Figure] = {}
    by_level: tuple[LevelAgreement, ...] = ()
    if len(machine):
        tables = _tables(machine, human, bootstrap, num_levels=trait.num_levels)
        figures = {name: _figure(of(tables), len(machine), bootstrap) for name, of in _OF_TRAIT.items()}
        by_level = _by_level(tables[0])
    return TraitReport(
        trait=trait.name,
        num_answers=len(machine),
        figures=figures,
        human_qwk=_human_qwk(reads, column, bootstrap),
        levels=by_level,
        groups=_group_figures(reads, column, bootstrap),
    )


def _human_qwk(reads: Reads, column: int, bootstrap: Bootstrap) -> Figure | None:
    chosen = reads.double_read(column)
    if not chosen.any():
        return None
    first, second = _levels(reads.first[chosen, column]), _levels(reads.second[chosen, column])
    tables = _tables(first, second, bootstrap, num_levels=reads.traits[column].num_levels)
    return _figure(agreement.quadratic_weighted_kappas(tables), len(first), bootstrap)


def _group_figures(reads: Reads, column: int, bootstrap: Bootstrap) -> tuple[GroupFigure, ...]:
    found = []
    for grouping, groups in reads.groups.items():
        # Everyone whose group is known is the population that each of its groups is held against.
        known = np.array([bool(group) for group in groups], dtype=np.bool_) & reads.paired(column)
        if not known.any():
            continue
        names, index = np.unique(np.asarray(groups, dtype=np.str_)[known], return_inverse=True)
        levels = _levels(np.column_stack([reads.machine[known, column], reads.human[known, column], index]))
        rows, counts = bootstrap.draw(levels)
        for number, name in enumerate(names):
            values = differences_of_standardised_means(
                rows[:, 0], rows[:, 1], member=rows[:, 2] == number, counts=counts
            )
            dsm = _figure(values, int((index == number).sum()), bootstrap)
            found.append(GroupFigure(grouping, str(name), dsm))
    return tuple(found)


def _item_figures(reads: Reads, bootstrap: Bootstrap) -> dict[str, Figure]:
    chosen, num_traits = reads.complete(), len(reads.traits)
    if num_traits < 2 or not chosen.any():
        return {}
    rows, counts = bootstrap.draw(_levels(np.hstack([reads.machine[chosen], reads.human[chosen]])))
    is_multi_label = all(trait.num_levels == 2 for trait in reads.traits)
    wanted = {**_OF_ITEM, **(_OF_LABELS if is_multi_label else {})}
    machine, human = rows[:, :num_traits], rows[:, num_traits:]
    return {
        name: _figure(of(machine, human, counts), int(chosen.sum()), bootstrap) for name, of in wanted.items()
    }


def _tables(machine: Levels, human: Levels, bootstrap: Bootstrap, *, num_levels: int) -> Floats:
    rows, counts = bootstrap.draw(np.column_stack([machine, human]))
    return agreement.agreement_tables(rows[:, 0], rows[:, 1], counts, num_levels=num_levels)


def _figure(values: Floats, num_answers: int, bootstrap: Bootstrap) -> Figure:
    low, high = bootstrap.interval(values[1:])
    return Figure(float(values[0]), low, high, num_answers)


def _by_level(table: Floats) -> tuple[LevelAgreement, ...]:
    return tuple(
        LevelAgreement(level, int(table[:, level].sum()), int(table[level].sum()), int(table[level, level]))
        for level in range(len(table))
    )


def _levels(values: NDArray[np.float64]) -> Levels:
    return values.astype(np.int64)
