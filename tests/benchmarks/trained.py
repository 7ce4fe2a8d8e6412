"""The suite's 27 scorers as the engine's benchmarks need them: trained, with adapters on query and value.

Every finished scorer is kept in `build/engine`, so that a later run, or one that was killed, goes on there.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scoring.artifacts import ArtifactStore
from scoring.config import LoraShape, TrainingConfig
from scoring.engines.findings import SCHEME
from scoring.training.examples import data_digest
from scoring.training.finetuning import train_item
from scoring.types import ScorerKey

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scoring.backbone import Backbone
    from scoring.types import ItemSpec, LabelledAnswer

KEPT = Path(__file__).resolve().parents[2] / "build" / "engine"
#: The paper's adapter (Latif and Zhai, 2025): rank 8 on query and value of every layer.
CONFIG = TrainingConfig(
    lora=LoraShape(target_modules=("query", "value")), num_adapted_layers=None, max_epochs=4, min_steps=200
)


@dataclass(frozen=True, slots=True)
class TrainedItem:
    """One item of the suite, its answers, and the scorer that learned from the train fold."""

    item: ItemSpec
    answers: Sequence[LabelledAnswer]
    scorer: ScorerKey


def trained_suite(
    items: Sequence[tuple[ItemSpec, list[LabelledAnswer]]], backbone: Backbone, *, is_short: bool
) -> tuple[ArtifactStore, list[TrainedItem]]:
    """A scorer for each item, trained here unless it is kept from an earlier run; short: for one epoch."""
    store = ArtifactStore(KEPT / "store")
    config = CONFIG.limited(1) if is_short else CONFIG
    return store, [
        TrainedItem(item, answers, _scorer(item, answers, backbone, store, config)) for item, answers in items
    ]


def _scorer(
    item: ItemSpec,
    answers: Sequence[LabelledAnswer],
    backbone: Backbone,
    store: ArtifactStore,
    config: TrainingConfig,
) -> ScorerKey:
    identity = [asdict(config), backbone.revision, data_digest(answers), SCHEME]
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    note = KEPT / "scorers" / f"{item.item_id}-{digest}.json"
    if note.exists():
        return ScorerKey(json.loads(note.read_text())["scorer"])
    report = train_item(item, answers, backbone=backbone, store=store, config=config)
    note.parent.mkdir(parents=True, exist_ok=True)
    unfinished = note.with_suffix(".tmp")
    unfinished.write_text(
        json.dumps({"scorer": report.scorer_key, "qwk": [one.qwk for one in report.metrics]})
    )
    unfinished.replace(note)
    print(f"trained {item.item_id}: QWK {', '.join(f'{one.qwk:.3f}' for one in report.metrics)}", flush=True)
    return report.scorer_key
