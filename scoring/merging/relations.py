"""Relational matrices: how far apart an item's answers lie from each other, whatever their coordinates mean.

Features come in, distances divided by one scale go out. Knows no second cloud.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scoring.errors import InvalidInputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Relations:
    """Euclidean distances within a cloud, divided by a scale that is kept apart.

    Attributes:
        matrix: symmetric, zero on the diagonal [num_answers, num_answers]
        scale: what the distances were divided by; 0 where all answers coincide
    """

    matrix: NDArray[np.float64]
    scale: float

    def __len__(self) -> int:
        return len(self.matrix)

    def first(self, num_answers: int) -> Relations:
        """The relations among the first answers, still divided by the scale of all."""
        if num_answers >= len(self):
            return self
        return Relations(self.matrix[:num_answers, :num_answers], self.scale)


def relate(features: ArrayLike, *, scale: float | None = None) -> Relations:
    """Distances between all answers of a cloud, divided by their root mean square.

    Without a common scale, GW mostly follows the difference of mean distances (Memoli, 2011, section 5).

    Args:
        features: one row an answer [num_answers, hidden]
        scale: divide by this instead, to compare clouds with their sizes left in

    Raises:
        InvalidInputError: fewer than two answers, or a feature that is not finite.
    """
    rows = np.asarray(features, dtype=np.float64)
    if rows.ndim != 2 or len(rows) < 2 or not np.isfinite(rows).all():
        raise InvalidInputError(
            f"features of shape {list(rows.shape)}; at least two rows of finite values are needed"
        )
    distances = _euclidean(rows)
    scale = float(np.sqrt(np.mean(distances**2))) if scale is None else scale
    return Relations(distances / scale if scale > 0 else distances, scale)


def _euclidean(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    # |x|^2 + |y|^2 - 2xy is one matrix product; about the mean, it loses the fewest digits.
    centred = rows - rows.mean(axis=0)
    gram = centred @ centred.T
    squares = np.diag(gram)
    squared = np.maximum(squares[:, None] + squares[None, :] - 2 * gram, 0.0)
    np.fill_diagonal(squared, 0.0)
    distances: NDArray[np.float64] = np.sqrt((squared + squared.T) / 2)
    return distances
