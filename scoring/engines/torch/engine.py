"""The torch engine: requests in, scores out, by one backbone, a bank of adapters and a bank of heads.

Composes rows, banks, encoder and heads, and lets a scorer in only after its golden rows came out as stored.
Knows no database and no broker. Not thread-safe: `load`, `unload` and `score` belong to one engine thread.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from scoring.engines.golden import GoldenRows
from scoring.engines.roster import Roster
from scoring.engines.rows import collapse, cut, tokenise
from scoring.engines.tally import tally
from scoring.engines.torch.admission import is_admitted
from scoring.engines.torch.encoders import Encoders, make_bank
from scoring.engines.torch.kernels import int8_pays
from scoring.errors import DeviceOutOfMemoryError, GoldenMismatchError, IncompatibleArtifactError
from scoring.heads import HeadBank
from scoring.text import normalise

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from scoring.artifacts import ArtifactStore, ScorerArtifact
    from scoring.backbone import Backbone
    from scoring.config import EngineConfig
    from scoring.engines.roster import LoadedScorer
    from scoring.types import Requests, ScorerKey, Scores

logger = logging.getLogger(__name__)

#: Loaded scorers whose golden rows stand beside a newcomer's.
_NUM_COMPANIONS = 8


class TorchEngine:
    """`scoring.engine.Engine` on torch, CPU or CUDA, fp32 and on a CPU int8."""

    def __init__(self, backbone: Backbone, store: ArtifactStore, config: EngineConfig) -> None:
        """Make an engine without scorers.

        Args:
            backbone: loaded on the device that the engine is to run on
            store: where scorers and extractors are read
            config: how answers are cut into batches, and in what precision they run
        """
        self._backbone = backbone
        self._config = config
        self._adapters = make_bank(backbone)
        self._heads = HeadBank(backbone.hidden_size, device=backbone.device)
        self._encoder = Encoders(backbone, self._adapters)
        self._forward = self._encoder.forward
        wants_int8 = config.precision == "int8" or (config.precision == "auto" and int8_pays())
        self._can_int8 = wants_int8 and self._encoder.can_int8
        self._roster = Roster(
            store, backbone, adapters=self._adapters, heads=self._heads, takes_int8=self._takes_int8
        )

    @property
    def name(self) -> str:
        """Engine, version, device, best precision and kind of forward."""
        return self._label(is_int8=self._can_int8)

    def label(self, scorer: ScorerKey) -> str:
        """The name with the precision in which this scorer runs; see `Engine.label`."""
        return self._label(is_int8=self._roster[scorer].reading.is_int8)

    def load(self, scorer: ScorerKey) -> None:
        """Bring a scorer in and replay its golden rows in a mixed batch; see `Engine.load`."""
        if scorer in self._roster:
            return
        companions = self._roster.newest(_NUM_COMPANIONS)
        with _memory_errors():
            newcomer = self._roster.admit(scorer)
            try:
                self._replay(newcomer, companions)
                if newcomer.reading.is_int8:
                    self._replay_int8(newcomer, companions)
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
        logits = self._logits(golden.scorers, golden.texts, in_fp32=True)
        golden.check(logits, tolerance=self._config.golden_tolerance)

    def _replay_int8(self, newcomer: LoadedScorer, companions: Sequence[LoadedScorer]) -> None:
        golden = GoldenRows.gather(newcomer, companions)
        try:
            logits = self._logits(golden.scorers, golden.texts)
            golden.check(logits, tolerance=self._config.golden_tolerance_int8)
        except GoldenMismatchError as error:
            logger.warning("%s; serving it in fp32", error, extra={"action": "int8_refused"})
            self._roster.demote(newcomer.key)

    @torch.inference_mode()
    def _logits(
        self, scorers: Sequence[LoadedScorer], texts: Sequence[str], *, in_fp32: bool = False
    ) -> NDArray[np.float32]:
        """Logits of each answer's head [num_answers, max_width], in its scorer's precision or in fp32."""
        readings = [scorer.reading for scorer in scorers]
        if in_fp32:
            readings = [reading._replace(is_int8=False) for reading in readings]
        pairs, row_of = collapse(readings, [normalise(text) for text in texts])
        rows = tokenise(pairs, self._backbone)
        device = self._backbone.device
        features = torch.empty(len(rows), self._backbone.hidden_size, device=device)
        for indices in cut(rows, self._config.max_batch_tokens):
            features[torch.from_numpy(indices).to(device)] = self._encoder.features(rows.take(indices))
        return self._heads.logits(features, row_of, [scorer.head_slot for scorer in scorers])

    def _takes_int8(self, artifact: ScorerArtifact) -> bool:
        return self._can_int8 and (self._config.precision == "int8" or is_admitted(artifact))

    def _label(self, *, is_int8: bool) -> str:
        precision = "int8" if is_int8 else "fp32"
        return f"torch {torch.__version__} {self._backbone.device.type} {precision} {self._forward}"


def pick_device(device: str) -> str:
    """The device that a configured name means: "auto" is CUDA where there is one, else the CPU."""
    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"


def use_threads(num_threads: int) -> None:
    """Set torch's CPU threads for this whole process; called once, at its start."""
    torch.set_num_threads(num_threads)


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
