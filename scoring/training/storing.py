"""A trained network as artifacts and back: extractor, scorer, golden rows and where they came from.

Knows the store's forms; knows no data and no loop.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from scoring.artifacts import ExtractorArtifact, ScorerArtifact
from scoring.engines.findings import LINEAGE_KEY
from scoring.engines.torch.admission import try_int8
from scoring.errors import CorruptArtifactError
from scoring.training.golden import GOLDEN_TEXTS
from scoring.types import TrainingReport, TraitMetrics

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scoring.artifacts import ArtifactStore
    from scoring.backbone import Backbone
    from scoring.config import TrainingConfig
    from scoring.training.examples import Examples
    from scoring.training.network import ItemNetwork
    from scoring.types import Decision, ExtractorKey, ItemSpec, ScorerKey


def store_network(  # noqa: PLR0913 (a network, what is known about it, and where it goes)
    network: ItemNetwork,
    item: ItemSpec,
    *,
    decisions: Mapping[str, Decision],
    lineage: dict[str, Any],
    backbone: Backbone,
    store: ArtifactStore,
    config: TrainingConfig,
    validation: Examples | None = None,
) -> tuple[ExtractorKey, ScorerKey]:
    """Write adapter and head, with golden logits computed through PEFT's layers in fp32.

    What int8 arithmetic would change on the validation answers is written into the lineage: an engine reads
    there whether it may use it. Without validation answers the scorer is served in fp32.

    Returns:
        the keys of extractor and scorer

    Raises:
        StoreUnavailableError: the store does not answer.
    """
    adapter = ExtractorArtifact(
        backbone=backbone.name,
        backbone_revision=backbone.revision,
        lora=network.lora_shape(config.lora),
        tensors=network.adapter_tensors(),
    )
    extractor = store.write_extractor(adapter)
    golden = network.predict(network.inputs(backbone.encode(GOLDEN_TEXTS, config.max_tokens)))
    scorer = ScorerArtifact(
        item=item,
        extractor=extractor,
        backbone=backbone.name,
        backbone_revision=backbone.revision,
        pooling=config.pooling,
        max_tokens=config.max_tokens,
        head_weight=network.head.weight.detach().cpu().clone(),
        head_bias=network.head.bias.detach().cpu().clone(),
        decisions=dict(decisions),
        golden_texts=GOLDEN_TEXTS,
        golden_logits=torch.from_numpy(golden),
        lineage=lineage,
    )
    if validation is not None:
        ids, levels = validation.token_ids, validation.levels
        finding = try_int8(scorer, adapter, backbone=backbone, token_ids=ids, levels=levels)
        scorer = replace(scorer, lineage=lineage | {LINEAGE_KEY: finding})
    return extractor, store.write_scorer(scorer)


def stored_report(store: ArtifactStore, key: ScorerKey) -> TrainingReport:
    """The report of the training that left this scorer, from what it says about its own making.

    Raises:
        CorruptArtifactError: scorer or extractor are missing or damaged.
        StoreUnavailableError: the store does not answer.
    """
    scorer = store.read_scorer(key)
    extractor = store.read_extractor(scorer.extractor)
    told = scorer.lineage
    try:
        metrics = tuple(TraitMetrics(**_with_nan(figures)) for figures in told["metrics"])
        return TrainingReport(
            item_id=scorer.item.item_id,
            scorer_key=key,
            extractor_key=scorer.extractor,
            backbone=scorer.backbone,
            backbone_revision=scorer.backbone_revision,
            rank=extractor.lora.rank,
            alpha=extractor.lora.alpha,
            target_modules=extractor.lora.target_modules,
            extractor_num_bytes=store.num_bytes(scorer.extractor),
            num_train=told["num_train"],
            num_validation=told["num_validation"],
            num_test=told["num_test"],
            num_epochs=len(told["epochs"]),
            seed=told["config"]["seed"],
            seconds=0.0,
            metrics=metrics,
            warnings=tuple(told["warnings"]),
        )
    except (KeyError, TypeError) as error:
        raise CorruptArtifactError(f"scorer {key[:12]}: its lineage is no training's ({error!r})") from error


def _with_nan(figures: dict[str, Any]) -> dict[str, Any]:
    return {name: math.nan if value is None else value for name, value in figures.items()}
