"""One item's scorer from its human-scored answers: LoRA adapter and head on the frozen backbone.

Answers come in, an extractor and a scorer stand in the artifact store afterwards, a report goes out. The room
knows no database and no alias: which scorer an item uses is decided elsewhere.
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import torch

from scoring.artifacts import ExtractorArtifact, ScorerArtifact
from scoring.calibration import fit_decision
from scoring.training.evaluation import decide_traits, split_logits, trait_metrics
from scoring.training.examples import check_answers, check_folds, data_digest, encode_examples
from scoring.training.fitting import best_epoch, fit
from scoring.training.folds import part
from scoring.training.golden import GOLDEN_TEXTS
from scoring.training.network import ItemNetwork
from scoring.types import TrainingReport

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from scoring.artifacts import ArtifactStore
    from scoring.backbone import Backbone
    from scoring.config import TrainingConfig
    from scoring.training.examples import Examples
    from scoring.training.fitting import Epoch
    from scoring.types import Decision, ExtractorKey, ItemSpec, LabelledAnswer, TraitMetrics


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

    The train fold moves the weights; the validation fold stops the training and fits temperatures, cut points
    and review thresholds; the test fold is only measured, through the final decision. Same answers, same
    configuration and same machine give the same scorer.

    Args:
        item: the traits to score and their levels.
        answers: human-scored answers; folds as in `scoring.training.folds.part`.
        backbone: the shared encoder; left exactly as it is.
        store: where extractor and scorer are written.
        config: adapter shape, rates, sizes, seed.
        progress: called after every epoch.

    Raises:
        InvalidInputError: the answers cannot train this item; the message says which and why.
        StoreUnavailableError: the store does not answer.
    """
    started = time.monotonic()
    check_answers(item, answers)
    folds = part(item.item_id, answers)
    warnings = check_folds(item, folds)
    train, validation, test = (
        encode_examples(item, fold, backbone=backbone, max_tokens=config.max_tokens)
        for fold in (folds.train, folds.validation, folds.test)
    )
    network, epochs = _fitted(item, train, validation, backbone=backbone, config=config, progress=progress)
    decisions = _decisions(item, network, validation, config=config)
    metrics = _measured(item, network, test, decisions)
    extractor = store.write_extractor(
        ExtractorArtifact(
            backbone=backbone.name,
            backbone_revision=backbone.revision,
            lora=config.lora,
            tensors=network.adapter_tensors(),
        )
    )
    lineage = {
        "data_sha256": data_digest(answers),
        "num_train": len(train),
        "num_validation": len(validation),
        "num_test": len(test),
        "config": asdict(config),
        "epochs": [asdict(epoch) for epoch in epochs],
        "best_epoch": best_epoch(epochs),
        "metrics": [_json_ready(asdict(figures)) for figures in metrics],
        "warnings": list(warnings),
        "versions": {name: version(name) for name in ("scorefold", "torch", "transformers", "peft")},
    }
    scorer = store.write_scorer(
        _scorer(
            item, network, extractor, backbone=backbone, decisions=decisions, config=config, lineage=lineage
        )
    )
    return TrainingReport(
        item_id=item.item_id,
        scorer_key=scorer,
        extractor_key=extractor,
        backbone=backbone.name,
        backbone_revision=backbone.revision,
        rank=config.lora.rank,
        alpha=config.lora.alpha,
        target_modules=config.lora.target_modules,
        extractor_num_bytes=store.num_bytes(extractor),
        num_train=len(train),
        num_validation=len(validation),
        num_test=len(test),
        num_epochs=len(epochs),
        seed=config.seed,
        seconds=time.monotonic() - started,
        metrics=metrics,
        warnings=warnings,
    )


def _fitted(
    item: ItemSpec,
    train: Examples,
    validation: Examples,
    *,
    backbone: Backbone,
    config: TrainingConfig,
    progress: Callable[[Epoch], None] | None,
) -> tuple[ItemNetwork, list[Epoch]]:
    devices = [backbone.device] if backbone.device.type == "cuda" else []
    # Initial weights and dropout draw from torch's global generator: seed a fork of it, leave the caller's.
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(config.seed)
        network = ItemNetwork(backbone, item.num_logits, config=config)
        epochs = fit(
            network,
            train=train,
            validation=validation,
            num_levels=[trait.num_levels for trait in item.traits],
            config=config,
            progress=progress or (lambda _: None),
        )
    return network, epochs


def _decisions(
    item: ItemSpec, network: ItemNetwork, validation: Examples, *, config: TrainingConfig
) -> dict[str, Decision]:
    tables = split_logits(item, network.predict(validation.token_ids))
    return {
        trait.name: fit_decision(
            tables[trait.name],
            validation.levels[:, column],
            risk=config.review_risk,
            certainty=config.review_certainty,
        )
        for column, trait in enumerate(item.traits)
    }


def _measured(
    item: ItemSpec, network: ItemNetwork, test: Examples, decisions: dict[str, Decision]
) -> tuple[TraitMetrics, ...]:
    decided = decide_traits(item, network.predict(test.token_ids), decisions)
    return trait_metrics(item, decided, test.levels)


def _scorer(
    item: ItemSpec,
    network: ItemNetwork,
    extractor: ExtractorKey,
    *,
    backbone: Backbone,
    decisions: dict[str, Decision],
    config: TrainingConfig,
    lineage: dict[str, Any],
) -> ScorerArtifact:
    golden = network.predict(backbone.encode(GOLDEN_TEXTS, config.max_tokens))
    return ScorerArtifact(
        item=item,
        extractor=extractor,
        backbone=backbone.name,
        backbone_revision=backbone.revision,
        pooling=config.pooling,
        max_tokens=config.max_tokens,
        head_weight=network.head.weight.detach().cpu().clone(),
        head_bias=network.head.bias.detach().cpu().clone(),
        decisions=decisions,
        golden_texts=GOLDEN_TEXTS,
        golden_logits=torch.from_numpy(golden),
        lineage=lineage,
    )


def _json_ready(figures: dict[str, Any]) -> dict[str, Any]:
    """JSON has no nan: a figure that is not defined is null."""
    undefined = {name for name, value in figures.items() if isinstance(value, float) and math.isnan(value)}
    return figures | dict.fromkeys(undefined)
