"""One item's network from its human-scored answers, with its decision and its agreement; nothing is stored.

Answers come in; which method moves what is the networks' business. The room knows no store and no database.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import torch

from scoring.training.adapted import AdaptedNetwork
from scoring.training.baselines import FullNetwork, HeadNetwork
from scoring.training.evaluation import decide_traits, fit_decisions, trait_metrics
from scoring.training.examples import check_answers, check_folds, data_digest, encode_folds
from scoring.training.fitting import fit, kept_epoch
from scoring.training.folds import part

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from scoring.backbone import Backbone
    from scoring.config import Method, TrainingConfig
    from scoring.training.examples import FoldExamples
    from scoring.training.fitting import Epoch
    from scoring.training.network import ItemNetwork
    from scoring.types import Decision, ItemSpec, LabelledAnswer, TraitMetrics

NETWORKS: dict[Method, type[ItemNetwork]] = {
    "lora": AdaptedNetwork,
    "full": FullNetwork,
    "head": HeadNetwork,
}


@dataclass(frozen=True, slots=True, eq=False)
class FittedItem:
    """A trained network and what is known about it, before anything is stored.

    Attributes:
        item: what it scores
        network: in the state that is kept
        data: the three folds
        epochs: the epochs that were run
        decisions: by trait name, fitted on the validation fold
        metrics: agreement on the test fold; empty when it holds no answer
        warnings: what a person should know about the data
        lineage: what the scorer says about its making
        config: the recipe it was trained by
    """

    item: ItemSpec
    network: ItemNetwork
    data: FoldExamples
    epochs: list[Epoch]
    decisions: dict[str, Decision]
    metrics: tuple[TraitMetrics, ...]
    warnings: tuple[str, ...]
    lineage: dict[str, Any]
    config: TrainingConfig


def fit_item(
    item: ItemSpec,
    answers: Sequence[LabelledAnswer],
    *,
    backbone: Backbone,
    config: TrainingConfig,
    progress: Callable[[Epoch], None] | None = None,
) -> FittedItem:
    """Train, calibrate and measure by any method; nothing is stored.

    The train fold moves the weights; the validation fold stops the training, where patience is set, and fits
    temperatures, cut points and review thresholds; the test fold is only measured, through the final
    decision. Same answers, same configuration and same machine give the same network.

    Raises:
        InvalidInputError: the answers cannot train this item; the message says which and why.
    """
    check_answers(item, answers)
    folds = part(item.item_id, answers)
    warnings = check_folds(item, folds)
    data = encode_folds(item, folds, backbone=backbone, max_tokens=config.max_tokens)
    network, epochs = _fitted(item, data, backbone=backbone, config=config, progress=progress)
    decisions = fit_decisions(
        item,
        network.predict(network.inputs(data.validation.token_ids)),
        data.validation.levels,
        risk=config.review_risk,
        certainty=config.review_certainty,
    )
    decided = decide_traits(item, network.predict(network.inputs(data.test.token_ids)), decisions)
    metrics = trait_metrics(item, decided, data.test.levels)
    return FittedItem(
        item=item,
        network=network,
        data=data,
        epochs=epochs,
        decisions=decisions,
        metrics=metrics,
        warnings=warnings,
        lineage=_lineage(answers, data, epochs=epochs, metrics=metrics, warnings=warnings, config=config),
        config=config,
    )


def _fitted(
    item: ItemSpec,
    data: FoldExamples,
    *,
    backbone: Backbone,
    config: TrainingConfig,
    progress: Callable[[Epoch], None] | None,
) -> tuple[ItemNetwork, list[Epoch]]:
    devices = [backbone.device] if backbone.device.type == "cuda" else []
    # Initial weights and dropout draw from torch's global generator: seed a fork of it, leave the caller's.
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(config.seed)
        network = NETWORKS[config.method](backbone, item.num_logits, config=config)
        epochs = fit(
            network,
            train=data.train,
            validation=data.validation,
            num_levels=item.num_levels,
            config=config,
            progress=progress or (lambda _: None),
        )
    return network, epochs


def _lineage(
    answers: Sequence[LabelledAnswer],
    data: FoldExamples,
    *,
    epochs: Sequence[Epoch],
    metrics: Sequence[TraitMetrics],
    warnings: Sequence[str],
    config: TrainingConfig,
) -> dict[str, Any]:
    """What a scorer says about its own making: JSON values, and no clock, so that equal runs are equal."""
    return {
        "data_sha256": data_digest(answers),
        "num_train": len(data.train),
        "num_validation": len(data.validation),
        "num_test": len(data.test),
        "config": asdict(config),
        "epochs": [asdict(epoch) for epoch in epochs],
        "kept_epoch": kept_epoch(epochs, patience=config.patience),
        "metrics": [_json_ready(asdict(figures)) for figures in metrics],
        "warnings": list(warnings),
        "versions": {name: version(name) for name in ("scorefold", "torch", "transformers", "peft")},
    }


def _json_ready(figures: dict[str, Any]) -> dict[str, Any]:
    """JSON has no nan: a figure that is not defined is null."""
    undefined = {name for name, value in figures.items() if isinstance(value, float) and math.isnan(value)}
    return figures | dict.fromkeys(undefined)
