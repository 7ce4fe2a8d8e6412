"""The bootstrap: how much a figure would move if other answers had been read (Efron, 1979).

Rows of whole numbers come in, tables of how often each distinct row was drawn go out. Answers with the same
levels are interchangeable, so that drawing how often each distinct row occurs (one multinomial draw a
resample) is the bootstrap over answers, at a fraction of the work.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """How intervals are made: number of resamples, their coverage, and the seed of all draws."""

    num_resamples: int = 1000
    coverage: float = 0.95
    seed: int = 20260101

    def draw(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Draw answers with replacement.

        Args:
            rows: one row an answer [num_answers, num_columns]

        Returns:
            the distinct rows [num_distinct, num_columns], and how often each stands in the answers as they
            are (first) and in each resample [1 + num_resamples, num_distinct]
        """
        distinct, counts = np.unique(rows, axis=0, return_counts=True)
        drawn = np.random.default_rng(self.seed).multinomial(
            len(rows), counts / len(rows), size=self.num_resamples
        )
        return distinct, np.vstack([counts, drawn])

    def interval(self, values: NDArray[np.float64]) -> tuple[float, float]:
        """Percentile interval of a figure's resampled values; nan where it is defined in none of them."""
        defined = values[~np.isnan(values)]
        if not defined.size:
            return np.nan, np.nan
        tail = (1 - self.coverage) / 2
        low, high = np.quantile(defined, [tail, 1 - tail])
        return float(low), float(high)
