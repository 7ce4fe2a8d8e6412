"""How well decided levels agree with human ones, trait by trait; knows no model and no fold's name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from scoring.calibration import fit_decision
from scoring.heads import Decided, decide
from scoring.metrics import accuracy, macro_f1, quadratic_weighted_kappa
from scoring.types import TraitMetrics

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from scoring.types import Decision, ItemSpec


def split_logits(item: ItemSpec, logits: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """A head's logits [num_answers, num_logits] as one table [num_answers, num_levels] a trait."""
    ends = np.cumsum(item.num_levels)
    tables = np.split(logits, ends[:-1], axis=1)
    return {trait.name: table for trait, table in zip(item.traits, tables, strict=True)}


def decide_traits(
    item: ItemSpec, logits: NDArray[np.float32], decisions: Mapping[str, Decision]
) -> dict[str, Decided]:
    """Every trait's logits through its own decision."""
    return {name: decide(table, decisions[name]) for name, table in split_logits(item, logits).items()}


def calibrated(
    item: ItemSpec, logits: NDArray[np.float32], decisions: Mapping[str, Decision]
) -> NDArray[np.float32]:
    """Logits divided by their traits' temperatures [num_answers, num_logits]."""
    of_traits = np.array([decisions[trait.name].temperature for trait in item.traits], dtype=np.float32)
    of_logits: NDArray[np.float32] = np.repeat(of_traits, item.num_levels)
    return logits / of_logits


def fit_decisions(
    item: ItemSpec, logits: NDArray[np.float32], human: NDArray[np.int64], *, risk: float, certainty: float
) -> dict[str, Decision]:
    """Every trait's decision, fitted on answers that the model was not trained on; see `fit_decision`.

    Args:
        item: names the traits and their order.
        logits: a head's [num_answers, num_logits]
        human: human levels, traits in the item's order [num_answers, num_traits]
        risk: largest share of wrong levels among answers that no human reads
        certainty: how sure to be of that
    """
    tables = split_logits(item, logits)
    return {
        trait.name: fit_decision(tables[trait.name], human[:, column], risk=risk, certainty=certainty)
        for column, trait in enumerate(item.traits)
    }


def trait_metrics(
    item: ItemSpec, decided: Mapping[str, Decided], human: NDArray[np.int64]
) -> tuple[TraitMetrics, ...]:
    """Agreement of each trait with its human levels.

    Args:
        item: names the traits and their order.
        decided: the decided levels by trait name.
        human: human levels, traits in the item's order [num_answers, num_traits]

    Returns:
        one entry a trait; none at all without answers. A figure that is not defined on these answers is nan.
    """
    if not len(human):
        return ()
    return tuple(
        trait_agreement(trait.name, decided[trait.name].level, human[:, column])
        for column, trait in enumerate(item.traits)
    )


def trait_agreement(
    trait: str, machine: NDArray[np.integer[Any]], human: NDArray[np.integer[Any]]
) -> TraitMetrics:
    """Agreement of one trait's levels with the human ones, both [num_answers], at least one."""
    return TraitMetrics(
        trait=trait,
        num_answers=len(human),
        qwk=quadratic_weighted_kappa(machine, human),
        accuracy=accuracy(machine, human),
        macro_f1=macro_f1(machine, human),
    )
