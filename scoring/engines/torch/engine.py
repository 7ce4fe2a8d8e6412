"""The torch engine: requests in, scores out, by one backbone, a bank of adapters and a bank of heads.

Composes rows, banks, encoder and heads, and lets a scorer in only after its golden rows came out as stored.
Knows no database and no broker. Not thread-safe: `load`, `unload` and `score` belong to one engine thread.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import torch
from torch import nn

from scoring.bank import AdapterBank
from scoring.engines.golden import GoldenRows
from scoring.engines.roster import Roster
from scoring.engines.rows import collapse, cut, tokenise
from scoring.engines.tally import tally
from scoring.engines.torch.bert import BertEncoder, is_bert_like
from scoring.engines.torch.hooked import HookedEncoder
from scoring.engines.torch.layouts import Layout, PackedLayout, PaddedLayout
from scoring.errors import DeviceOutOfMemoryError, IncompatibleArtifactError
from scoring.heads import HeadBank
from scoring.text import normalise

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from scoring.artifacts import ArtifactStore
    from scoring.backbone import Backbone
    from scoring.config import EngineConfig
    from scoring.engines.roster import LoadedScorer
    from scoring.engines.rows import Rows
    from scoring.types import Requests, ScorerKey, Scores

logger = logging.getLogger(__name__)

#: Loaded scorers whose golden rows stand beside a newcomer's.
_NUM_COMPANIONS = 8


class Encoder(Protocol):
    """Pooled features of a batch of rows, each with its own adapter."""

    def features(self, rows: Rows) -> Tensor:
        """Features of rows sorted by length [num_rows, hidden]."""


class TorchEngine:
    """`scoring.engine.Engine` on torch, CPU or CUDA, fp32."""

    def __init__(self, backbone: Backbone, store: ArtifactStore, config: EngineConfig) -> None:
        """Make an engine without scorers.

        Args:
            backbone: loaded on the device that the engine is to run on
            store: where scorers and extractors are read
            config: how answers are cut into batches
        """
        self._backbone = backbone
        self._config = config
        self._adapters = AdapterBank(_linear_shapes(backbone.model), device=backbone.device)
        self._heads = HeadBank(backbone.hidden_size, device=backbone.device)
        self._roster = Roster(store, backbone, adapters=self._adapters, heads=self._heads)
        self._forward, self._encoder = self._choose_encoder()

    @property
    def name(self) -> str:
        """Engine, version, device, precision and kind of forward."""
        return f"torch {torch.__version__} {self._backbone.device.type} fp32 {self._forward}"

    def load(self, scorer: ScorerKey) -> None:
        """Bring a scorer in and replay its golden rows in a mixed batch; see `Engine.load`."""
        if scorer in self._roster:
            return
        companions = self._roster.newest(_NUM_COMPANIONS)
        with _memory_errors():
            newcomer = self._roster.admit(scorer)
            try:
                self._replay(newcomer, companions)
            except BaseException:
                self._roster.dismiss(scorer)
                raise

    def unload(self, scorer: ScorerKey) -> None:
        """Forget a scorer and free its slots; see `Engine.unload`."""
        if scorer in self._roster:
            self._roster.dismiss(scorer)

    def loaded(self) -> Iterable[ScorerKey]:
        """The scorers that can be asked for."""
        return list(self._roster)

    def score(self, requests: Requests) -> Scores:
        """Score any mix of loaded scorers' answers; see `Engine.score`."""
        scorers = [self._roster[key] for key in requests.scorers]
        with _memory_errors():
            return tally(scorers, self._logits(scorers, requests.texts))

    def _replay(self, newcomer: LoadedScorer, companions: Sequence[LoadedScorer]) -> None:
        if newcomer.artifact.use_prompt:
            raise IncompatibleArtifactError(
                f"scorer {newcomer.key[:12]}: reads the item's prompt too, which this engine does not do"
            )
        golden = GoldenRows.gather(newcomer, companions)
        golden.check(self._logits(golden.scorers, golden.texts), tolerance=self._config.golden_tolerance)

    @torch.inference_mode()
    def _logits(self, scorers: Sequence[LoadedScorer], texts: Sequence[str]) -> NDArray[np.float32]:
        """Logits of each answer's head [num_answers, max_width]."""
        readings = [scorer.reading for scorer in scorers]
        pairs, row_of = collapse(readings, [normalise(text) for text in texts])
        rows = tokenise(pairs, self._backbone)
        device = self._backbone.device
        features = torch.empty(len(rows), self._backbone.hidden_size, device=device)
        for indices in cut(rows, self._config.max_batch_tokens):
            features[torch.from_numpy(indices).to(device)] = self._encoder.features(rows.take(indices))
        return self._heads.logits(features, row_of, [scorer.head_slot for scorer in scorers])

    def _choose_encoder(self) -> tuple[str, Encoder]:
        backbone = self._backbone
        if not is_bert_like(backbone):
            logger.warning(
                "no fast forward for family %s; running transformers' own, slower",
                backbone.family,
                extra={"action": "encoder_fallback", "family": backbone.family},
            )
            return "transformers", HookedEncoder(backbone, self._adapters)
        if backbone.device.type == "cpu":
            return "packed", BertEncoder(backbone, self._packed)
        return "padded", BertEncoder(backbone, self._padded)

    def _packed(self, rows: Rows) -> Layout:
        return PackedLayout(rows, self._adapters, self._backbone.device)

    def _padded(self, rows: Rows) -> Layout:
        return PaddedLayout(rows, self._adapters, self._backbone.device, pad_id=self._backbone.pad_id)


def pick_device(device: str) -> str:
    """The device that a configured name means: "auto" is CUDA where there is one, else the CPU."""
    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"


def use_threads(num_threads: int) -> None:
    """Set torch's CPU threads for this whole process; called once, at its start."""
    torch.set_num_threads(num_threads)


def _linear_shapes(model: nn.Module) -> dict[str, tuple[int, int]]:
    return {
        path: (module.in_features, module.out_features)
        for path, module in model.named_modules()
        if isinstance(module, nn.Linear)
    }


@contextmanager
def _memory_errors() -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise DeviceOutOfMemoryError(f"the batch does not fit on the device: {error}") from error
    except RuntimeError as error:
        # The CPU allocator has no error class of its own.
        if "not enough memory" not in str(error) and "can't allocate memory" not in str(error):
            raise
        raise DeviceOutOfMemoryError(f"the batch does not fit in memory: {error}") from error
