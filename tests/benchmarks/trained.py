"""The suite's 27 scorers as the engine's benchmarks need them: trained, with adapters on query and value.

Every finished scorer is kept in `build/engine`, so that a later run, or one that was killed, goes on there.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from scoring.artifacts import ArtifactStore
from scoring.config import LoraShape, TrainingConfig
from scoring.engines.findings import LINEAGE_KEY, SCHEME
from scoring.engines.torch.admission import try_int8
from scoring.merging.members import levels_of
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
    lora=LoraShape(target_modules=("query", "value")),
    num_adapted_layers=None,
    max_epochs=4,
    min_steps=200,
    patience=2,
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
    identity = [asdict(config), backbone.revision, data_digest(answers)]
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    note = KEPT / "scorers" / f"{item.item_id}-{digest}.json"
    if note.exists():
        return _with_finding(ScorerKey(json.loads(note.read_text())["scorer"]), answers, backbone, store)
    report = train_item(item, answers, backbone=backbone, store=store, config=config)
    note.parent.mkdir(parents=True, exist_ok=True)
    unfinished = note.with_suffix(".tmp")
    unfinished.write_text(
        json.dumps({"scorer": report.scorer_key, "qwk": [one.qwk for one in report.metrics]})
    )
    unfinished.replace(note)
    print(f"trained {item.item_id}: QWK {', '.join(f'{one.qwk:.3f}' for one in report.metrics)}", flush=True)
    return report.scorer_key


def _with_finding(
    key: ScorerKey, answers: Sequence[LabelledAnswer], backbone: Backbone, store: ArtifactStore
) -> ScorerKey:
    """The same scorer with a finding about the present int8, where it was kept with one about another."""
    scorer = store.read_scorer(key)
    if (scorer.lineage[LINEAGE_KEY] or {}).get("scheme") == SCHEME:
        return key
    validation = [one for one in answers if one.fold == "validation"]
    found = try_int8(
        scorer,
        store.read_extractor(scorer.extractor),
        backbone=backbone,
        token_ids=backbone.encode([one.text for one in validation], scorer.max_tokens),
        levels=levels_of(scorer.item, validation),
    )
    return store.write_scorer(replace(scorer, lineage={**scorer.lineage, LINEAGE_KEY: found}))
