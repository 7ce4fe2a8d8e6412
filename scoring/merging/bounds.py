"""Lower bounds of the Gromov-Wasserstein distance: certain, unlike any solver's value (Memoli, 2011).

Relational matrices come in; bounds, and vectors from which the bounds of all pairs follow, go out. In POT's
units (square loss) FLB <= TLB and SLB <= TLB <= GW^2, where W2 compares distributions on the line:

    FLB   W2^2 of the eccentricities, an answer's root mean square distance to its cloud
    SLB   W2^2 of all pairwise distances
    TLB   transport over costs that are W2^2 of one answer's distances and another's

Only TLB needs a transport; its costs are made here and solved where the solver is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial.distance import squareform

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scoring.merging.relations import Relations

#: Cells of a cloud's distance profile.
NUM_CELLS = 64


def first_bound(first: Relations, second: Relations) -> float:
    """FLB, in units of GW^2."""
    return _quantile_distance(eccentricities(first), eccentricities(second))


def second_bound(first: Relations, second: Relations) -> float:
    """SLB, in units of GW^2."""
    return _quantile_distance(first.matrix.ravel(), second.matrix.ravel())


def third_bound_costs(first: Relations, second: Relations) -> NDArray[np.float64]:
    """W2^2 between each two answers' distances to their own clouds [num_first, num_second]."""
    rows, others, widths = _on_one_grid(first.matrix, second.matrix)
    rows, others = rows * np.sqrt(widths), others * np.sqrt(widths)
    squares = (rows**2).sum(axis=1)[:, None] + (others**2).sum(axis=1)[None, :]
    costs: NDArray[np.float64] = np.maximum(squares - 2 * rows @ others.T, 0.0)
    return costs


def eccentricities(relations: Relations) -> NDArray[np.float64]:
    """Each answer's root mean square distance to its cloud [num_answers]."""
    values: NDArray[np.float64] = np.sqrt(np.mean(relations.matrix**2, axis=1))
    return values


def distance_profile(relations: Relations, num_cells: int = NUM_CELLS) -> NDArray[np.float64]:
    """All pairwise distances in `num_cells` numbers: their quantile function's means over cells.

    A number is a cell's mean times the root of the cell's mass, so that the squared Euclidean distance of two
    profiles is never above SLB (Jensen's inequality): a certain bound as well, whatever the clouds' sizes.
    Cells are narrow at both ends, where distributions of distances differ most.

    Returns:
        profile [num_cells]
    """
    edges = (1 - np.cos(np.linspace(0, np.pi, num_cells + 1))) / 2
    between = np.sort(squareform(relations.matrix, checks=False))
    # Each distance stands in the matrix twice, and below them all the zeros of the diagonal.
    zeros = 1 / len(relations)
    reached = np.clip((edges - zeros) / (1 - zeros), 0, 1)
    integrals = np.diff(_integral(between, reached)) * (1 - zeros)
    profile: NDArray[np.float64] = integrals / np.sqrt(np.diff(edges))
    return profile


def _integral(ascending: NDArray[np.float64], until: NDArray[np.float64]) -> NDArray[np.float64]:
    """Integral from 0 of the step function that takes these values on steps of equal width."""
    num_values = len(ascending)
    whole = np.minimum((until * num_values).astype(np.int64), num_values - 1)
    summed = np.concatenate([[0.0], np.cumsum(ascending)])[whole]
    integral: NDArray[np.float64] = (summed + (until * num_values - whole) * ascending[whole]) / num_values
    return integral


def _quantile_distance(values: NDArray[np.float64], others: NDArray[np.float64]) -> float:
    """W2^2 of two distributions on the line, each of equally heavy points."""
    left, right, widths = _on_one_grid(values[None, :], others[None, :])
    return float(((left - right) ** 2 @ widths)[0])


def _on_one_grid(
    first: NDArray[np.float64], second: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Row-wise quantile functions of both on the common refinement of their steps, and the steps' widths."""
    n, m = first.shape[1], second.shape[1]
    rows, others = np.sort(first, axis=1), np.sort(second, axis=1)
    if n == m:
        return rows, others, np.full(n, 1 / n)
    ends = np.union1d(np.arange(1, n + 1) * m, np.arange(1, m + 1) * n)
    starts = np.concatenate([[0], ends[:-1]])
    return rows[:, starts // m], others[:, starts // n], (ends - starts) / (n * m)
