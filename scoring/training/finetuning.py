"""One item's scorer from its human-scored answers; or, for a baseline, figures alone.

Answers come in, an extractor and a scorer stand in the artifact store afterwards, a report goes out. The room
knows no database and no alias: which scorer an item uses is decided elsewhere.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from scoring.errors import InvalidInputError
from scoring.training.fitted import fit_item
from scoring.training.storing import store_network
from scoring.types import BaselineReport, TrainingReport

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from scoring.artifacts import ArtifactStore
    from scoring.backbone import Backbone
    from scoring.config import TrainingConfig
    from scoring.training.fitting import Epoch
    from scoring.types import ItemSpec, LabelledAnswer


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
