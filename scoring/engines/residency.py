"""Which extractors stand in the bank: all of them, or those used last where the bank has a limit.

An extractor that has to leave stays known, and is read from the store again when an answer asks for it. Knows
no scorers' heads and no texts.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

from scoring.types import BankState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from scoring.artifacts import ExtractorArtifact
    from scoring.bank import AdapterBank
    from scoring.types import ExtractorKey

logger = logging.getLogger(__name__)

_WARNING_INTERVAL_S = 60.0


class Residency:
    """Extractors in the bank, the least recently used first."""

    def __init__(self, bank: AdapterBank, read: Callable[[ExtractorKey], ExtractorArtifact]) -> None:
        """Begin with an empty bank.

        Args:
            bank: where extractors go; its limit is the limit
            read: from a key to an extractor that fits the backbone
        """
        self._bank = bank
        self._read = read
        self._slots: OrderedDict[ExtractorKey, int] = OrderedDict()
        self._num_bytes: dict[ExtractorKey, int] = {}
        self._num_brought = self._num_evicted = self._num_overflows = 0
        self._warned_at = float("-inf")

    def __contains__(self, key: object) -> bool:
        return key in self._slots

    def slot(self, key: ExtractorKey) -> int:
        """Slot of an extractor that is in the bank."""
        return self._slots[key]

    def state(self) -> BankState:
        """How full the bank is, and what came and went."""
        return BankState(
            num_resident=len(self._slots),
            num_bytes=self._bank.num_bytes,
            num_brought=self._num_brought,
            num_evicted=self._num_evicted,
            num_overflows=self._num_overflows,
        )

    def bring(self, key: ExtractorKey, *, keep: frozenset[ExtractorKey] = frozenset()) -> list[ExtractorKey]:
        """Make sure that an extractor is in the bank; returns those that had to leave for it.

        Args:
            key: the extractor
            keep: extractors that must not leave

        Raises:
            CorruptArtifactError, IncompatibleArtifactError, StoreUnavailableError: as its reading says.
        """
        if key in self._slots:
            self._slots.move_to_end(key)
            return []
        artifact = self._read(key)
        pairs, scale = artifact.modules(), artifact.lora.alpha / artifact.lora.rank
        gone = []
        while not self._bank.fits(pairs):
            oldest = next((one for one in self._slots if one not in keep), None)
            if oldest is None:
                break  # one extractor alone is served however small the bank
            self._evict(oldest)
            gone.append(oldest)
        self._slots[key] = self._bank.add(pairs, scale=scale)
        self._num_bytes[key] = self._bank.bytes_of(pairs)
        self._num_brought += 1
        return gone

    def forget(self, key: ExtractorKey) -> None:
        """Drop an extractor that nobody uses any more."""
        self._num_bytes.pop(key, None)
        if key in self._slots:
            self._bank.remove(self._slots.pop(key))

    def waves(self, wanted: Iterable[ExtractorKey]) -> list[frozenset[ExtractorKey]]:
        """Part extractors into waves that fit the bank, those that are there first; each is in one wave.

        So each is brought in at most once, and whatever is asked for in one call is served in it: nobody is
        starved by what happens to be loaded.
        """
        keys = sorted(dict.fromkeys(wanted), key=lambda key: key not in self._slots)
        limit = self._bank.max_bytes
        if limit is None or all(key in self._slots for key in keys):
            return [frozenset(keys)]
        waves: list[set[ExtractorKey]] = [set()]
        # Slot 0 is as wide as the widest.
        num_bytes = empty = max(self._num_bytes.get(key, 0) for key in keys)
        for key in keys:
            own = self._num_bytes.get(key, 0)
            if waves[-1] and num_bytes + own > limit:
                waves.append(set())
                num_bytes = empty
            waves[-1].add(key)
            num_bytes += own
        if len(waves) > 1:
            self._num_overflows += 1
            self._warn(len(keys), sum(self._num_bytes.get(key, 0) for key in keys), limit)
        return [frozenset(wave) for wave in waves]

    def _evict(self, key: ExtractorKey) -> None:
        self._bank.remove(self._slots.pop(key))
        self._num_evicted += 1

    def _warn(self, num_wanted: int, num_bytes: int, limit: int) -> None:
        now = time.monotonic()
        if now - self._warned_at < _WARNING_INTERVAL_S:
            return
        self._warned_at = now
        logger.warning(
            "the bank is too small: one call wants %d extractors of %.1f MB, it holds %.1f MB; "
            "raise its limit or start more workers",
            num_wanted,
            num_bytes / 1e6,
            limit / 1e6,
            extra={"action": "bank_too_small"},
        )
