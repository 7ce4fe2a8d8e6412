"""What can be told of all pairs at once, without solving any: bounds, and what goes along with distances.

Relational matrices come in one by one, columns over pairs go out. The lower bound is certain; the rest only
serves to put pairs in a promising order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import eigvalsh
from scipy.spatial.distance import cdist

from scoring.merging.bounds import distance_profile, eccentricities

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from scoring.merging.relations import Relations

_NUM_BLOCKS = 16
_NUM_ROOTS = 64
_NEIGHBOURS = (1, 2, 4, 8, 16)
_QUANTILES = np.linspace(0, 1, 50)


@dataclass(frozen=True, slots=True, eq=False)
class CloudSummary:
    """A cloud in a few hundred numbers, good for as long as its digest and the settings stay the same.

    Attributes:
        profile: distribution of all distances; Euclidean distances of profiles are bounds [num_cells]
        shape: answers' own distributions of distances, ordered by eccentricity [num_blocks^2]
        roots: the cloud's extent along its principal axes, widest first [num_roots]
        nearness: how far answers are from their nearest ones, as quantiles [num_neighbours * num_quantiles]
        spread: 1 - mean distance^2: how much distances differ within the cloud
        width: logarithm of how many dimensions the cloud fills (participation ratio)
        scale: what the distances were divided by
    """

    profile: NDArray[np.float64]
    shape: NDArray[np.float64]
    roots: NDArray[np.float64]
    nearness: NDArray[np.float64]
    spread: float
    width: float
    scale: float

    @classmethod
    def of(cls, relations: Relations) -> CloudSummary:
        """The summary of one cloud."""
        return cls(
            distance_profile(relations),
            _shape(relations),
            _roots(relations),
            _nearness(relations),
            1 - float(relations.matrix.mean()) ** 2,
            _width(relations),
            relations.scale,
        )


def pair_bounds(
    clouds: Sequence[CloudSummary], first: NDArray[np.intp], second: NDArray[np.intp]
) -> NDArray[np.float64]:
    """A certain lower bound of each pair's distance: sqrt(SLB) / 2, from the profiles [num_pairs]."""
    if not len(first):
        return np.empty(0)
    profiles = np.array([cloud.profile for cloud in clouds])
    bounds: NDArray[np.float64] = cdist(profiles, profiles)[first, second] / 2
    return bounds


def pair_predictors(
    clouds: Sequence[CloudSummary], first: NDArray[np.intp], second: NDArray[np.intp]
) -> NDArray[np.float64]:
    """What goes along with a pair's distance [num_pairs, num_predictors]."""
    bounds = pair_bounds(clouds, first, second)
    spreads, widths = (
        np.array(column) for column in zip(*((c.spread, c.width) for c in clouds), strict=True)
    )
    return np.column_stack(
        [
            bounds,
            bounds**2,
            *_apart([cloud.shape for cloud in clouds], first, second),
            *_apart([cloud.roots for cloud in clouds], first, second),
            *_apart([cloud.nearness for cloud in clouds], first, second),
            spreads[first] + spreads[second],
            np.abs(spreads[first] - spreads[second]),
            widths[first] + widths[second],
            np.abs(widths[first] - widths[second]),
        ]
    )


def _apart(
    vectors: Sequence[NDArray[np.float64]], first: NDArray[np.intp], second: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Euclidean distances of some clouds' vectors, and their squares [num_pairs] each."""
    distances = cdist(np.array(vectors), np.array(vectors))[first, second]
    return distances, distances**2


def _shape(relations: Relations) -> NDArray[np.float64]:
    """The matrix with each row sorted and the rows by eccentricity, in blocks [num_blocks^2]."""
    order = np.argsort(eccentricities(relations))
    rows = np.sort(relations.matrix, axis=1)[order]
    edges = np.arange(_NUM_BLOCKS) * len(relations) // _NUM_BLOCKS
    counts = np.maximum(np.diff(edges, append=len(relations)), 1)
    blocks = np.add.reduceat(np.add.reduceat(rows, edges, axis=0), edges, axis=1)
    shape: NDArray[np.float64] = (blocks / np.outer(counts, counts)).ravel() / _NUM_BLOCKS
    return shape


def _roots(relations: Relations) -> NDArray[np.float64]:
    """Root mean square extent along the principal axes: eigenvalues of the centred Gram matrix."""
    squared = relations.matrix**2
    means = squared.mean(axis=0)
    gram = (means[:, None] + means - squared - means.mean()) / (2 * len(relations))
    values = eigvalsh(gram)[::-1][:_NUM_ROOTS]
    roots = np.zeros(_NUM_ROOTS)
    roots[: len(values)] = np.sqrt(np.maximum(values, 0.0))
    return roots


def _nearness(relations: Relations) -> NDArray[np.float64]:
    """Distances to the nearest, the second, the fourth ... answer, each in ascending order."""
    ascending = np.sort(relations.matrix, axis=1)
    columns = ascending[:, np.minimum(_NEIGHBOURS, len(relations) - 1)]
    nearness: NDArray[np.float64] = np.quantile(columns, _QUANTILES, axis=0).ravel()
    return nearness


def _width(relations: Relations) -> float:
    """log(trace(K)^2 / trace(K^2)), K being the centred Gram matrix, -2K = J D^2 J (Torgerson, 1952).

    Both traces follow from sums of D^2, without K itself.
    """
    squared = relations.matrix**2
    num_answers, total = len(relations), float(squared.sum())
    if total == 0:
        return 0.0
    rows = squared.sum(axis=1)
    of_square = (
        float(np.vdot(squared, squared)) - 2 * float(rows @ rows) / num_answers + (total / num_answers) ** 2
    )
    return float(np.log((total / num_answers) ** 2 / of_square))
