"""A trained network as artifacts: extractor, scorer, golden rows and where they came from.

Knows the store's forms; knows no data and no loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from scoring.artifacts import ExtractorArtifact, ScorerArtifact
from scoring.training.golden import GOLDEN_TEXTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scoring.artifacts import ArtifactStore
    from scoring.backbone import Backbone
    from scoring.config import TrainingConfig
    from scoring.training.network import ItemNetwork
    from scoring.types import Decision, ExtractorKey, ItemSpec, ScorerKey


def store_network(
    network: ItemNetwork,
    item: ItemSpec,
    *,
    decisions: Mapping[str, Decision],
    lineage: dict[str, Any],
    backbone: Backbone,
    store: ArtifactStore,
    config: TrainingConfig,
) -> tuple[ExtractorKey, ScorerKey]:
    """Write adapter and head, with golden logits computed through PEFT's layers in fp32.

    Returns:
        the keys of extractor and scorer

    Raises:
        StoreUnavailableError: the store does not answer.
    """
    extractor = store.write_extractor(
        ExtractorArtifact(
            backbone=backbone.name,
            backbone_revision=backbone.revision,
            lora=network.lora_shape(config.lora),
            tensors=network.adapter_tensors(),
        )
    )
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
    return extractor, store.write_scorer(scorer)
