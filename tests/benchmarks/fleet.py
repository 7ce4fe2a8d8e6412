"""What the engine's benchmark runs on: trained scorers, the same ones bare, and a thousand made-up ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from scoring.config import EngineConfig
from scoring.engines.onnx import OnnxEngine
from scoring.engines.torch import TorchEngine
from scoring.text import normalise
from scoring.types import Requests
from tests.unit.tiny_encoders import write_bare

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from scoring.artifacts import ArtifactStore
    from scoring.backbone import Backbone
    from scoring.types import ScorerKey
    from tests.benchmarks.trained import TrainedItem

ENGINES: dict[str, type[TorchEngine | OnnxEngine]] = {"torch": TorchEngine, "onnx": OnnxEngine}


@dataclass(frozen=True, slots=True, eq=False)
class Load:
    """Answers of many items in arrival order; no text twice, since equal ones would be computed once.

    Attributes:
        texts: [num_answers]
        owners: number of each answer's item [num_answers]
    """

    texts: list[str]
    owners: NDArray[np.intp]

    def requests(self, keys: Sequence[ScorerKey]) -> Requests:
        """Each answer for the scorer of its item; more scorers than items share them by turns."""
        num_items = int(self.owners.max()) + 1
        if len(keys) == num_items:
            return Requests([keys[owner] for owner in self.owners], self.texts)
        return Requests([keys[place % len(keys)] for place in range(len(self.texts))], self.texts)

    def head(self, num_answers: int) -> Load:
        """The first answers."""
        return Load(self.texts[:num_answers], self.owners[:num_answers])


def make_load(items: Sequence[TrainedItem], num_answers: int) -> Load:
    """Real answers in a fixed random order, every item's share as in the data."""
    seen: dict[str, int] = {}
    for number, one in enumerate(items):
        for answer in one.answers:
            seen.setdefault(normalise(answer.text), number)
    texts = list(seen)
    chosen = np.random.default_rng(0).permutation(len(texts))[:num_answers]
    return Load([texts[place] for place in chosen], np.array([seen[texts[place]] for place in chosen]))


def bare_twins(store: ArtifactStore, backbone: Backbone, keys: Sequence[ScorerKey]) -> list[ScorerKey]:
    """The same heads on the encoder without any adapter."""
    extractor = write_bare(store, backbone)
    return [store.write_scorer(replace(store.read_scorer(key), extractor=extractor)) for key in keys]


def wide_twins(store: ArtifactStore, backbone: Backbone, keys: Sequence[ScorerKey]) -> list[ScorerKey]:
    """The same heads, each on a made-up adapter on all six linear layers, rank 8."""
    shapes = {
        "attention.self.query": (1, 1),
        "attention.self.key": (1, 1),
        "attention.self.value": (1, 1),
        "attention.output.dense": (1, 1),
        "intermediate.dense": (1, 4),
        "output.dense": (4, 1),
    }
    hidden, made = backbone.hidden_size, []
    for seed, key in enumerate(keys):
        generator = torch.Generator().manual_seed(seed)
        scorer = store.read_scorer(key)
        pattern = store.read_extractor(scorer.extractor)
        tensors = {}
        for layer in range(backbone.num_layers):
            for name, (num_in, num_out) in shapes.items():
                path = f"base_model.model.encoder.layer.{layer}.{name}"
                a = torch.randn(8, num_in * hidden, generator=generator)
                b = torch.randn(num_out * hidden, 8, generator=generator)
                tensors |= {f"{path}.lora_A.weight": 0.02 * a, f"{path}.lora_B.weight": 0.02 * b}
        lora = replace(pattern.lora, rank=8, target_modules=tuple(shapes))
        extractor = store.write_extractor(replace(pattern, lora=lora, tensors=tensors))
        made.append(store.write_scorer(replace(scorer, extractor=extractor)))
    return made


def many_twins(store: ArtifactStore, keys: Sequence[ScorerKey], num_scorers: int) -> list[ScorerKey]:
    """Scorers on as many adapters, each a trained one with a little noise of its own."""
    made = []
    for seed in range(num_scorers):
        generator = torch.Generator().manual_seed(seed)
        scorer = store.read_scorer(keys[seed % len(keys)])
        pattern = store.read_extractor(scorer.extractor)
        tensors = {
            name: tensor + 1e-3 * torch.randn(tensor.shape, generator=generator)
            for name, tensor in pattern.tensors.items()
        }
        extractor = store.write_extractor(replace(pattern, tensors=tensors))
        short = replace(
            scorer,
            extractor=extractor,
            golden_texts=scorer.golden_texts[:1],
            golden_logits=scorer.golden_logits[:1].clone(),
        )
        made.append(store.write_scorer(short))
    return made


def loaded_engine(
    store: ArtifactStore,
    backbone: Backbone,
    keys: Sequence[ScorerKey],
    *,
    make: type[TorchEngine | OnnxEngine] = TorchEngine,
    trusting: bool = False,
    **config: object,
) -> TorchEngine | OnnxEngine:
    """An engine with these scorers; a trusting one does not mind golden rows that do not come out."""
    tolerance = {"golden_tolerance": 1e9, "golden_tolerance_int8": 1e9} if trusting else {}
    engine = make(backbone, store, EngineConfig(**tolerance, **config))  # type: ignore[arg-type]
    for key in keys:
        engine.load(key)
    return engine
