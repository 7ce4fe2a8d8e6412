"""What is known of a pair of items, and how near a pair has to be to be asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scoring.errors import InvalidInputError

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class PairDistance:
    """What is known of one pair.

    Attributes:
        first: the item whose id sorts first
        second: the other item
        distance: the solver's, where `solved`; else an estimate, which only ranks
        lower_bound: certified: the true distance of the two clouds is not below it
        num_answers: answers of the smaller cloud that the distance rests on
        solved: whether the solver ran on all answers
        certified: whether the pair's place inside or outside of what was asked for is certain: solved, or
            bounded away. What lies outside by an estimate or by a forecast alone is not certain.
    """

    first: str
    second: str
    distance: float
    lower_bound: float
    num_answers: int
    solved: bool
    certified: bool


@dataclass(frozen=True, slots=True)
class Wanted:
    """How many of the nearest pairs, or how near; without either, all of them.

    Raises:
        InvalidInputError: a number of pairs or a threshold below zero.
    """

    num_pairs: int | None
    threshold: float | None

    def __post_init__(self) -> None:
        if (self.num_pairs or 0) < 0 or (self.threshold or 0.0) < 0:
            raise InvalidInputError(
                f"asked for {self.num_pairs} pairs within {self.threshold}; neither may be negative"
            )

    @property
    def is_all(self) -> bool:
        """Whether every pair's distance is asked for."""
        return self.num_pairs is None and self.threshold is None

    def cutoff(self, solved: NDArray[np.float64]) -> float:
        """How far a pair may be to matter still, the distances of the solved ones given."""
        limit = np.inf if self.threshold is None else self.threshold
        if self.num_pairs == 0:
            return 0.0
        if self.num_pairs is not None and len(solved) >= self.num_pairs:
            limit = min(limit, float(np.partition(solved, self.num_pairs - 1)[self.num_pairs - 1]))
        return limit

    def expected_number(self, expected: NDArray[np.float64]) -> int:
        """How many pairs will be wanted, as far as expected distances tell."""
        within = len(expected) if self.threshold is None else int((expected <= self.threshold).sum())
        return within if self.num_pairs is None else min(within, self.num_pairs)
