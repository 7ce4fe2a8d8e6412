"""Chance for the demo corpus: the same seed gives the same draws on every machine. Knows nothing of answers.

Python promises to keep the sequence of `random.Random.random` only, so all draws come from that one method.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")


class Dice:
    """A stream of draws with a name: streams of different names do not disturb one another."""

    def __init__(self, seed: int, name: str) -> None:
        # A string seed is hashed with SHA-512, which no process-wide hash seed changes.
        self._draw = random.Random(f"{seed}/{name}").random  # noqa: S311 - made-up data, not secrets

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self._draw() < probability

    def below(self, stop: int) -> int:
        """An integer in 0..stop-1."""
        return int(self._draw() * stop)

    def pick(self, options: Sequence[T]) -> T:
        """One of the options, all equally likely."""
        return options[int(self._draw() * len(options))]

    def bell(self) -> float:
        """A draw with mean 0 and standard deviation 1, near enough to normal (sum of twelve uniforms)."""
        return sum(self._draw() for _ in range(12)) - 6.0

    def shuffle(self, items: list[T]) -> None:
        """Put the list into random order, in place (Fisher and Yates)."""
        for last in range(len(items) - 1, 0, -1):
            other = self.below(last + 1)
            items[last], items[other] = items[other], items[last]
