"""What every engine does around its encoder: scorers in and out, golden rows, batches, logits, levels.

Composes rows, banks, encoder and heads, and lets a scorer in only after its golden rows came out as stored.
Knows no database and no broker, nor how an encoder computes. Not thread-safe: `load`, `unload` and `score`
belong to one engine thread.
"""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from scoring.engines.budget import TokenBudget
from scoring.engines.findings import is_admitted
from scoring.engines.golden import GoldenRows
from scoring.engines.roster import Roster
from scoring.engines.rows import Reading, Rows, collapse, cut, tokenise
from scoring.engines.samples import SAMPLE_TEXTS
from scoring.engines.tally import tally
from scoring.errors import DeviceOutOfMemoryError, GoldenMismatchError, IncompatibleArtifactError
from scoring.heads import HeadBank
from scoring.text import normalise

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from scoring.artifacts import ArtifactStore, ScorerArtifact
    from scoring.backbone import Backbone
    from scoring.bank import AdapterBank
    from scoring.config import EngineConfig
    from scoring.engines.roster import LoadedScorer
    from scoring.types import BankState, Requests, ScorerKey, Scores

logger = logging.getLogger(__name__)

#: Loaded scorers whose golden rows stand beside a newcomer's.
_NUM_COMPANIONS = 8
_NUM_PACE_TRIALS = 4


class Encoder(Protocol):
    """Pooled features of a batch of rows, each with its own adapter."""

    def features(self, rows: Rows) -> Tensor:
        """Features of rows sorted by length, all of one precision [num_rows, hidden]."""


class BankedEngine:
    """`scoring.engine.Engine` over an encoder and a bank of adapters."""

    #: Whether the encoder wants rows of one length in a batch.
    equal_lengths = False

    def __init__(
        self,
        backbone: Backbone,
        store: ArtifactStore,
        config: EngineConfig,
        *,
        encoder: Encoder,
        adapters: AdapterBank,
        can_int8: bool,
    ) -> None:
        """Make an engine without scorers.

        Args:
            backbone: the shared encoder and its tokenizer
            store: where scorers and extractors are read
            config: how answers are cut into batches, and in what precision they run
            encoder: what turns rows into features
            adapters: the bank that the encoder reads
            can_int8: whether admitted scorers may run in int8
        """
        self._backbone = backbone
        self._config = config
        self._encoder = encoder
        self._adapters = adapters
        self.can_int8 = can_int8
        self._budget = TokenBudget(config.max_batch_tokens, device=backbone.device.type)
        self._heads = HeadBank(backbone.hidden_size, device=backbone.device)
        self._roster = Roster(
            store,
            backbone,
            adapters=adapters,
            heads=self._heads,
            takes_int8=self._takes_int8,
            merged=config.merged_extractor,
        )

    @property
    def name(self) -> str:
        """Engine, version, device, best precision and kind of forward; see `Engine.name`."""
        return self.title(is_int8=self.can_int8)

    def label(self, scorer: ScorerKey) -> str:
        """The name with the precision in which this scorer runs; see `Engine.label`."""
        return self.title(is_int8=self._roster[scorer].reading.is_int8)

    def title(self, *, is_int8: bool) -> str:
        """Engine, version, device, a precision and the kind of forward."""
        raise NotImplementedError

    def pace(self, *, is_int8: bool) -> float:
        """Sample sentences a second through the bare encoder, by this thread's CPU time on a CPU."""
        num_copies = 2
        reading = Reading(0, 128, "mean", is_int8)
        token_ids = self._backbone.encode(SAMPLE_TEXTS, reading.max_tokens)
        rows = Rows.of([(reading, ids) for ids in token_ids * num_copies])
        clock = time.thread_time if self._backbone.device.type == "cpu" else time.perf_counter
        trials = []
        for _ in range(_NUM_PACE_TRIALS):
            started = clock()
            with torch.inference_mode():
                for indices in cut(rows, self._budget.best, equal_lengths=self.equal_lengths):
                    self._encoder.features(rows.take(indices)).cpu()
            trials.append(clock() - started)
        return len(rows) / min(trials)

    def bank(self) -> BankState:
        """How full the bank is and how often extractors came and went; see `Engine.bank`."""
        return self._roster.residency.state()

    def load(self, scorer: ScorerKey) -> None:
        """Bring a scorer in and replay its golden rows in a mixed batch; see `Engine.load`."""
        if scorer in self._roster:
            return
        with memory_errors():
            newcomer = self._roster.admit(scorer)
            companions = self._roster.companions(newcomer, _NUM_COMPANIONS)
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

    def prepare(self, requests: Requests) -> Requests:
        """Tokenise, from any thread; see `Engine.prepare`."""
        return replace(requests, token_ids=self._token_ids(requests))

    def score(self, requests: Requests) -> Scores:
        """Score any mix of loaded scorers' answers; see `Engine.score`."""
        token_ids = self._token_ids(requests)
        with memory_errors():
            logits = np.zeros((len(requests), 0), dtype=np.float32)
            for wave in self._roster.waves(requests.scorers):
                scorers = [self._roster[requests.scorers[index]] for index in wave]
                part = self._logits(scorers, [token_ids[index] for index in wave])
                if not logits.shape[1]:
                    logits = np.zeros((len(requests), part.shape[1]), dtype=np.float32)
                logits[wave] = part
            return tally([self._roster[key] for key in requests.scorers], logits)

    def _replay(self, newcomer: LoadedScorer, companions: Sequence[LoadedScorer]) -> None:
        if newcomer.artifact.use_prompt:
            raise IncompatibleArtifactError(
                f"scorer {newcomer.key[:12]}: reads the item's prompt too, which this engine does not do"
            )
        golden = GoldenRows.gather(newcomer, companions)
        token_ids = self._tokenised(golden.scorers, golden.texts)
        logits = self._logits(golden.scorers, token_ids, in_fp32=True)
        golden.check(logits, tolerance=self._config.golden_tolerance)

    def _replay_int8(self, newcomer: LoadedScorer, companions: Sequence[LoadedScorer]) -> None:
        golden = GoldenRows.gather(newcomer, companions)
        try:
            logits = self._logits(golden.scorers, self._tokenised(golden.scorers, golden.texts))
            golden.check(logits, tolerance=self._config.golden_tolerance_int8)
        except GoldenMismatchError as error:
            logger.warning("%s; serving it in fp32", error, extra={"action": "int8_refused"})
            self._roster.demote(newcomer.key)

    def _token_ids(self, requests: Requests) -> Sequence[tuple[int, ...]]:
        if requests.token_ids is not None:
            return requests.token_ids
        return self._tokenised([self._roster[key] for key in requests.scorers], requests.texts)

    def _tokenised(self, scorers: Sequence[LoadedScorer], texts: Sequence[str]) -> list[tuple[int, ...]]:
        limits = [scorer.reading.max_tokens for scorer in scorers]
        return tokenise([normalise(text) for text in texts], limits, self._backbone)

    @torch.inference_mode()
    def _logits(
        self, scorers: Sequence[LoadedScorer], token_ids: Sequence[tuple[int, ...]], *, in_fp32: bool = False
    ) -> NDArray[np.float32]:
        """Logits of each answer's head [num_answers, max_width], in its scorer's precision or in fp32."""
        readings = [scorer.reading for scorer in scorers]
        if in_fp32:
            readings = [reading._replace(is_int8=False) for reading in readings]
        rows, row_of = collapse(readings, token_ids)
        device = self._backbone.device
        features = torch.empty(len(rows), self._backbone.hidden_size, device=device)
        with self._budget.measured(int(rows.lengths.sum())) as max_tokens:
            for indices in cut(rows, max_tokens, equal_lengths=self.equal_lengths):
                features[torch.from_numpy(indices).to(device)] = self._encoder.features(rows.take(indices))
        return self._heads.logits(features, row_of, [scorer.head_slot for scorer in scorers])

    def _takes_int8(self, artifact: ScorerArtifact) -> bool:
        if self._config.merged_extractor is not None or not self.can_int8:
            return False
        return self._config.precision == "int8" or is_admitted(artifact)


@contextmanager
def memory_errors() -> Iterator[None]:
    """Translate what means "too little memory".

    Raises:
        DeviceOutOfMemoryError: the batch does not fit on the device.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise DeviceOutOfMemoryError(f"the batch does not fit on the device: {error}") from error
    except RuntimeError as error:
        # The CPU allocator has no error class of its own.
        if "not enough memory" not in str(error) and "can't allocate memory" not in str(error):
            raise
        raise DeviceOutOfMemoryError(f"the batch does not fit in memory: {error}") from error
