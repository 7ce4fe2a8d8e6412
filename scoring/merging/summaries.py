"""What can be told of all pairs at once, without solving any: bounds, and what goes along with distances.

Relational matrices come in one by one; columns over pairs go out. The lower bound is certain; the rest only
serves to put pairs in a promising order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial.distance import cdist

from scoring.merging.bounds import distance_profile, eccentricities

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from scoring.merging.relations import Relations

_NUM_BLOCKS = 16


@dataclass(frozen=True, slots=True, eq=False)
class Summaries:
    """Short vectors of all clouds, row by row.

    Attributes:
        profiles: distribution of all distances; its Euclidean distances are bounds [num_items, num_cells]
        shapes: answers' own distributions of distances, ordered by eccentricity [num_items, num_blocks^2]
        spreads: 1 - mean distance^2: how much distances differ within the cloud [num_items]
        widths: logarithm of how many dimensions the cloud fills (participation ratio) [num_items]
    """

    profiles: NDArray[np.float64]
    shapes: NDArray[np.float64]
    spreads: NDArray[np.float64]
    widths: NDArray[np.float64]

    @classmethod
    def of(cls, clouds: Iterable[Relations]) -> Summaries:
        """Summaries of these clouds, each looked at once."""
        rows = [
            (
                distance_profile(relations),
                _shape(relations),
                1 - relations.matrix.mean() ** 2,
                _width(relations),
            )
            for relations in clouds
        ]
        profiles, shapes, spreads, widths = (np.array(column) for column in zip(*rows, strict=True))
        return cls(profiles, shapes, spreads, widths)

    def lower_bounds(self, first: NDArray[np.intp], second: NDArray[np.intp]) -> NDArray[np.float64]:
        """A certain lower bound of each pair's distance: sqrt(SLB) / 2, from the profiles [num_pairs]."""
        bounds: NDArray[np.float64] = cdist(self.profiles, self.profiles)[first, second] / 2
        return bounds

    def predictors(self, first: NDArray[np.intp], second: NDArray[np.intp]) -> NDArray[np.float64]:
        """What goes along with a pair's distance [num_pairs, num_predictors]."""
        bounds = self.lower_bounds(first, second)
        spread, other_spread = self.spreads[first], self.spreads[second]
        return np.column_stack(
            [
                bounds,
                bounds**2,
                cdist(self.shapes, self.shapes)[first, second],
                spread + other_spread,
                np.abs(spread - other_spread),
                self.widths[first] + self.widths[second],
                np.abs(self.widths[first] - self.widths[second]),
            ]
        )


def _shape(relations: Relations) -> NDArray[np.float64]:
    """The matrix with each row sorted and the rows by eccentricity, in blocks [num_blocks^2]."""
    order = np.argsort(eccentricities(relations))
    rows = np.sort(relations.matrix, axis=1)[order]
    edges = np.arange(_NUM_BLOCKS) * len(relations) // _NUM_BLOCKS
    counts = np.maximum(np.diff(edges, append=len(relations)), 1)
    blocks = np.add.reduceat(np.add.reduceat(rows, edges, axis=0), edges, axis=1)
    shape: NDArray[np.float64] = (blocks / np.outer(counts, counts)).ravel() / _NUM_BLOCKS
    return shape


def _width(relations: Relations) -> float:
    """log(trace(K)^2 / trace(K^2)) of the centred Gram matrix K, which the squared distances determine."""
    squared = relations.matrix**2
    squared -= squared.mean(axis=0)
    centred = squared - squared.mean(axis=1, keepdims=True)
    total = float((centred**2).sum())
    return float(np.log(np.trace(centred) ** 2 / total)) if total > 0 else 0.0
