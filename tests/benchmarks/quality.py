"""One item trained by one method: what it says of held-out answers, kept once it has been measured."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from scoring.artifacts import ArtifactStore
from scoring.calibration import fit_decision
from scoring.heads import decide
from scoring.metrics import accuracy, macro_f1, quadratic_weighted_kappa
from scoring.training.examples import data_digest
from scoring.training.fitted import fit_item
from scoring.training.storing import store_network
from scoring.types import TraitMetrics

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from scoring.backbone import Backbone
    from scoring.config import Method, TrainingConfig
    from scoring.training.fitted import FittedItem
    from scoring.types import ItemSpec, LabelledAnswer

_OF_ADAPTERS = ("lora", "num_adapted_layers", "adapter_lr", "frobenius_penalty")
#: Parts of a recipe that a trial does not depend on: what a method does not look at, and what comes after.
UNREAD: dict[Method, tuple[str, ...]] = {
    "lora": ("review_risk", "review_certainty", "encoder_lr"),
    "full": ("review_risk", "review_certainty", *_OF_ADAPTERS),
    "head": ("review_risk", "review_certainty", "encoder_lr", *_OF_ADAPTERS),
}


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of one item and method: logits rather than levels, so that a decision can be fitted anew.

    Attributes:
        num_bytes: what the item needs beside the shared backbone
        cpu_s: CPU time of training, calibration and measurement
        num_epochs: epochs that were run
        logits: of the test answers [num_test][num_levels]
        human: their levels [num_test]
        validation_logits: the same of the validation fold
        validation_human: the same of the validation fold
    """

    item_id: str
    method: str
    num_bytes: int
    cpu_s: float
    num_epochs: int
    logits: list[list[float]]
    human: list[int]
    validation_logits: list[list[float]]
    validation_human: list[int]

    @property
    def has_kappa(self) -> bool:
        """Whether people gave more than one level: with one alone no kappa means anything."""
        return len(set(self.human)) > 1

    def agreement(self, config: TrainingConfig) -> TraitMetrics:
        """On the test fold, by a decision that is fitted on the validation fold."""
        decision = fit_decision(
            self.validation_logits,
            self.validation_human,
            risk=config.review_risk,
            certainty=config.review_certainty,
        )
        level = decide(np.array(self.logits), decision).level
        return TraitMetrics(
            trait="score",
            num_answers=len(self.human),
            qwk=quadratic_weighted_kappa(level, self.human),
            accuracy=accuracy(level, self.human),
            macro_f1=macro_f1(level, self.human),
        )


class Trials:
    """Trials measured so far; a finished one is read from its file, also after a kill."""

    def __init__(self, folder: Path, backbone: Backbone) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._backbone = backbone

    def of(self, item: ItemSpec, answers: Sequence[LabelledAnswer], config: TrainingConfig) -> Trial:
        """Train and measure, unless that has been done by this recipe, on these answers and this backbone."""
        path = self.path_of(item, answers, config)
        if path.exists():
            return Trial(**json.loads(path.read_text()))
        trial = self._measured(item, answers, config)
        unfinished = path.with_suffix(".tmp")
        unfinished.write_text(json.dumps(asdict(trial)))
        unfinished.replace(path)
        return trial

    def path_of(self, item: ItemSpec, answers: Sequence[LabelledAnswer], config: TrainingConfig) -> Path:
        """Where a trial is kept; named by all that it depends on."""
        read = {name: value for name, value in asdict(config).items() if name not in UNREAD[config.method]}
        identity = [read, self._backbone.revision, data_digest(answers)]
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
        return self._folder / f"{item.item_id}-{config.method}-{digest}.json"

    def _measured(self, item: ItemSpec, answers: Sequence[LabelledAnswer], config: TrainingConfig) -> Trial:
        started = time.process_time()
        fitted = fit_item(item, answers, backbone=self._backbone, config=config)
        cpu_s = time.process_time() - started
        network, test, validation = fitted.network, fitted.data.test, fitted.data.validation
        return Trial(
            item_id=item.item_id,
            method=config.method,
            num_bytes=self._num_bytes(fitted),
            cpu_s=cpu_s,
            num_epochs=len(fitted.epochs),
            logits=network.predict(network.inputs(test.token_ids)).tolist(),
            human=test.levels[:, 0].tolist(),
            validation_logits=network.predict(network.inputs(validation.token_ids)).tolist(),
            validation_human=validation.levels[:, 0].tolist(),
        )

    def _num_bytes(self, fitted: FittedItem) -> int:
        """A whole encoder by its tensors, a scorer by its files in a store, cards and manifests included."""
        if fitted.config.method == "full":
            return sum(tensor.nbytes for tensor in fitted.network.trained_parameters())
        store = ArtifactStore(self._folder / "artifacts")
        keys = store_network(
            fitted.network,
            fitted.item,
            decisions=fitted.decisions,
            lineage=fitted.lineage,
            backbone=self._backbone,
            store=store,
            config=fitted.config,
        )
        return sum(store.num_bytes(key) for key in keys)
