"""The engine's face: requests in, scores out, any mix of items in one call.

What runs behind it (torch, ONNX Runtime, CPU, GPU) is the business of `scoring.engines`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scoring.types import BankState, Requests, ScorerKey, Scores


class Engine(Protocol):
    """One backbone, a bank of extractors and the heads of all loaded scorers."""

    @property
    def name(self) -> str:
        """Engine, version, device and the best precision in which it runs."""

    def label(self, scorer: ScorerKey) -> str:
        """Engine, version, device and this scorer's precision, as written beside each of its scores.

        Raises:
            KeyError: the scorer is not loaded.
        """

    def load(self, scorer: ScorerKey) -> None:
        """Bring a scorer and its extractor in from the artifact store; loading twice is free.

        Raises:
            CorruptArtifactError: a file is missing, changed, or no safetensors file.
            IncompatibleArtifactError: made for another backbone or with other levels.
            GoldenMismatchError: the golden rows do not come out as stored.
            StoreUnavailableError: the store does not answer.
        """

    def unload(self, scorer: ScorerKey) -> None:
        """Forget a scorer; its extractor goes when no other scorer uses it."""

    def bank(self) -> BankState:
        """How full the bank of extractors is, and what came and went."""

    def loaded(self) -> Iterable[ScorerKey]:
        """The scorers that can be asked for."""

    def prepare(self, requests: Requests) -> Requests:
        """Do what needs no device (tokenising), so that `score` need not; may be called from any thread.

        Raises:
            KeyError: a request names a scorer that is not loaded.
        """

    def score(self, requests: Requests) -> Scores:
        """Score any mix of loaded scorers' answers; an answer's score never depends on its company.

        Raises:
            KeyError: a request names a scorer that is not loaded.
            NotANumberError: an answer's logits are not finite; without it the others can be scored.
            DeviceOutOfMemoryError: a single batch does not fit on the device.
        """
