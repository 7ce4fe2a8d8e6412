"""How many tokens go into one forward pass: as configured, or found by timing the first real batches.

Knows tokens and seconds only. Scores do not depend on the budget, so that trying costs nothing.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_CANDIDATES = {"cpu": (512, 1024, 256, 2048), "cuda": (16384, 65536, 4096, 262144)}
#: A call counts as a trial of a budget when it fills at least so many batches of it.
_MIN_BATCHES = 2
_NUM_TRIALS = 2


class TokenBudget:
    """Tries each candidate on calls that are long enough, then keeps the one with most tokens a second."""

    def __init__(self, max_tokens: int | None, *, device: str) -> None:
        """Begin to look.

        Args:
            max_tokens: a fixed budget; None to find one
            device: "cpu" or "cuda", whose candidates lie far apart
        """
        self._candidates = (max_tokens,) if max_tokens else _CANDIDATES[device]
        self._rates: dict[int, list[float]] = {candidate: [] for candidate in self._candidates}
        self.best = self._candidates[0]
        self.is_found = len(self._candidates) == 1

    @contextmanager
    def measured(self, num_tokens: int) -> Iterator[int]:
        """The budget for a call over so many tokens; its time is taken unless the search is over."""
        if self.is_found:
            yield self.best
            return
        trial = self._next(num_tokens)
        # Of this thread: what else the machine was doing does not count. A GPU is waited for by the copy of
        # the features, which polls.
        started = time.thread_time()
        yield trial or self.best
        if trial:
            self._record(trial, num_tokens / max(time.thread_time() - started, 1e-9))

    def _next(self, num_tokens: int) -> int | None:
        fitting = [one for one in self._candidates if one * _MIN_BATCHES <= num_tokens]
        open_ones = [one for one in fitting if len(self._rates[one]) < _NUM_TRIALS]
        return min(open_ones, key=lambda one: len(self._rates[one]), default=None)

    def _record(self, trial: int, rate: float) -> None:
        self._rates[trial].append(rate)
        tried = {one: max(rates) for one, rates in self._rates.items() if rates}
        self.best = max(tried, key=lambda one: tried[one])
        self.is_found = all(len(rates) >= _NUM_TRIALS for rates in self._rates.values())
