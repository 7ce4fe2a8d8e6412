"""Which pairs are likely to be near, learned from those that have been solved.

Tables of predictors come in, expected distances go out. Nothing rests on a forecast but the order in which
pairs are solved, and which are left out unsolved; how many near ones that misses is measured, not assumed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_RIDGE = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class Forecast:
    """Ridge regression of distances on standardised predictors.

    Attributes:
        centre: means of the predictors [num_predictors]
        weights: change of the distance by a predictor's unit [num_predictors]
        level: mean distance
    """

    centre: NDArray[np.float64]
    weights: NDArray[np.float64]
    level: float

    @classmethod
    def fit(cls, predictors: NDArray[np.float64], distances: NDArray[np.float64]) -> Forecast:
        """Learn from solved pairs: predictors [num_solved, num_predictors], distances [num_solved]."""
        centre, spread = predictors.mean(axis=0), predictors.std(axis=0)
        spread[spread == 0] = 1.0
        x, level = (predictors - centre) / spread, float(distances.mean())
        gram = x.T @ x + _RIDGE * len(x) * np.eye(x.shape[1])
        return cls(centre, np.linalg.solve(gram, x.T @ (distances - level)) / spread, level)

    def expect(self, predictors: NDArray[np.float64]) -> NDArray[np.float64]:
        """Expected distances [num_pairs] from predictors [num_pairs, num_predictors]."""
        expected: NDArray[np.float64] = (predictors - self.centre) @ self.weights + self.level
        return expected
