"""One item's scorer from its human-scored answers: an adapter and a head, a head alone, or a whole encoder.

Answers come in, an extractor and a scorer stand in the artifact store afterwards, a report goes out. The room
knows no database and no alias: which scorer an item uses is decided elsewhere.
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import torch

from scoring.calibration import fit_decision
from scoring.errors import InvalidInputError
from scoring.training.adapted import AdaptedNetwork
from scoring.training.baselines import FullNetwork, HeadNetwork
from scoring.training.evaluation import decide_traits, split_logits, trait_metrics
from scoring.training.examples import check_answers, check_folds, data_digest, encode_folds
from scoring.training.fitting import best_epoch, fit
from scoring.training.folds import part
from scoring.training.storing import store_network
from scoring.types import BaselineReport, TrainingReport

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from scoring.artifacts import ArtifactStore
    from scoring.backbone import Backbone
    from scoring.config import Method, TrainingConfig
    from scoring.training.examples import Examples, FoldExamples
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
        network: in its best state
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


def train_item(
    item: ItemSpec,
    answers: Sequence[LabelledAnswer],
    *,
    backbone: Backbone,
    store: ArtifactStore,
    config: TrainingConfig,
    progress: Callable[[Epoch], None] | None = None,
) -> TrainingReport:
    """Train, calibrate, measure and store a scorer for one item.

    Args:
        item: the traits to score and their levels.
        answers: human-scored answers; folds as in `scoring.training.folds.part`.
        backbone: the shared encoder; left exactly as it is.
        store: where extractor and scorer are written.
        config: method, adapter shape, rates, sizes, seed.
        progress: called after every epoch.

    Raises:
        InvalidInputError: the answers cannot train this item, and the message says which and why; or the
            method is "full", which leaves nothing that an engine could serve.
        StoreUnavailableError: the store does not answer.
    """
    if config.method == "full":
        raise InvalidInputError(
            f"item {item.item_id!r}: a whole encoder of one item's own is a baseline and is not stored; "
            "train by method 'lora' or 'head' for a scorer"
        )
    started = time.monotonic()
    fitted = fit_item(item, answers, backbone=backbone, config=config, progress=progress)
    extractor, scorer = store_network(
        fitted.network,
        item,
        decisions=fitted.decisions,
        lineage=fitted.lineage,
        backbone=backbone,
        store=store,
        config=config,
        validation=fitted.data.validation,
    )
    return TrainingReport(
        item_id=item.item_id,
        scorer_key=scorer,
        extractor_key=extractor,
        backbone=backbone.name,
        backbone_revision=backbone.revision,
        rank=config.lora.rank,
        alpha=config.lora.alpha,
        target_modules=fitted.network.lora_shape(config.lora).target_modules,
        extractor_num_bytes=store.num_bytes(extractor),
        num_train=len(fitted.data.train),
        num_validation=len(fitted.data.validation),
        num_test=len(fitted.data.test),
        num_epochs=len(fitted.epochs),
        seed=config.seed,
        seconds=time.monotonic() - started,
        metrics=fitted.metrics,
        warnings=fitted.warnings,
    )


def measure_baseline(
    item: ItemSpec,
    answers: Sequence[LabelledAnswer],
    *,
    backbone: Backbone,
    config: TrainingConfig,
    progress: Callable[[Epoch], None] | None = None,
) -> BaselineReport:
    """Train a whole encoder for one item, measure it and let it go: what adapters are held against.

    Args:
        item: the traits to score and their levels.
        answers: human-scored answers; folds as in `scoring.training.folds.part`.
        backbone: the encoder to start from; left exactly as it is.
        config: a recipe of method "full".
        progress: called after every epoch.

    Raises:
        InvalidInputError: the answers cannot train this item; the message says which and why.
    """
    started = time.monotonic()
    fitted = fit_item(item, answers, backbone=backbone, config=config, progress=progress)
    return BaselineReport(
        item_id=item.item_id,
        backbone=backbone.name,
        backbone_revision=backbone.revision,
        num_bytes=sum(tensor.nbytes for tensor in fitted.network.trained_parameters()),
        num_train=len(fitted.data.train),
        num_validation=len(fitted.data.validation),
        num_test=len(fitted.data.test),
        num_epochs=len(fitted.epochs),
        seed=config.seed,
        seconds=time.monotonic() - started,
        metrics=fitted.metrics,
        warnings=fitted.warnings,
    )


def fit_item(
    item: ItemSpec,
    answers: Sequence[LabelledAnswer],
    *,
    backbone: Backbone,
    config: TrainingConfig,
    progress: Callable[[Epoch], None] | None = None,
) -> FittedItem:
    """Train, calibrate and measure by any method; nothing is stored.

    The train fold moves the weights; the validation fold stops the training and fits temperatures, cut points
    and review thresholds; the test fold is only measured, through the final decision. Same answers, same
    configuration and same machine give the same network.

    Raises:
        InvalidInputError: the answers cannot train this item; the message says which and why.
    """
    check_answers(item, answers)
    folds = part(item.item_id, answers)
    warnings = check_folds(item, folds)
    data = encode_folds(item, folds, backbone=backbone, max_tokens=config.max_tokens)
    network, epochs = _fitted(item, data, backbone=backbone, config=config, progress=progress)
    decisions = _decisions(item, network, data.validation, config=config)
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
            num_levels=[trait.num_levels for trait in item.traits],
            config=config,
            progress=progress or (lambda _: None),
        )
    return network, epochs


def _decisions(
    item: ItemSpec, network: ItemNetwork, validation: Examples, *, config: TrainingConfig
) -> dict[str, Decision]:
    tables = split_logits(item, network.predict(network.inputs(validation.token_ids)))
    return {
        trait.name: fit_decision(
            tables[trait.name],
            validation.levels[:, column],
            risk=config.review_risk,
            certainty=config.review_certainty,
        )
        for column, trait in enumerate(item.traits)
    }


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
        "best_epoch": best_epoch(epochs),
        "metrics": [_json_ready(asdict(figures)) for figures in metrics],
        "warnings": list(warnings),
        "versions": {name: version(name) for name in ("scorefold", "torch", "transformers", "peft")},
    }


def _json_ready(figures: dict[str, Any]) -> dict[str, Any]:
    """JSON has no nan: a figure that is not defined is null."""
    undefined = {name for name, value in figures.items() if isinstance(value, float) and math.isnan(value)}
    return figures | dict.fromkeys(undefined)
