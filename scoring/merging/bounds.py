"""Lower bounds of the Gromov-Wasserstein distance that are certain, unlike any solver's value."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scoring.merging.relations import Relations


def third_bound_costs(first: Relations, second: Relations) -> NDArray[np.float64]:
    """W2^2 between each two answers' distances to their own cloud [num_first, num_second]."""
    rows, others, widths = _on_one_grid(first.matrix, second.matrix)
    rows, others = rows * np.sqrt(widths), others * np.sqrt(widths)
    squares = (rows**2).sum(1)[:, None] + (others**2).sum(1)[None, :]
    costs: NDArray[np.float64] = np.maximum(squares - 2 * rows @ others.T, 0.0)
    return costs


def _on_one_grid(
    first: NDArray[np.float64], second: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Row-wise quantile functions of both matrices on the common refinement of their steps."""
    n, m = first.shape[1], second.shape[1]
    ends = np.union1d(np.arange(1, n + 1) * m, np.arange(1, m + 1) * n)
    starts = np.concatenate([[0], ends[:-1]])
    return (
        np.sort(first, axis=1)[:, starts // m],
        np.sort(second, axis=1)[:, starts // n],
        (ends - starts) / (n * m),
    )
