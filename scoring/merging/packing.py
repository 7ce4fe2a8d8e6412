"""The cheapest set of disjoint groups, by integer programming (HiGHS through scipy)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from scoring.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from scoring.merging.pairs import PairTable

#: Beyond this many possible groups the programme takes minutes rather than seconds.
MAX_CANDIDATES = 100_000


def pack_groups(table: PairTable, *, target: int | None) -> list[tuple[int, ...]]:
    """Disjoint groups that save `target` extractors at the least cost, or the most that can be saved.

    Set packing: minimise sum(cost_g x_g) subject to each item standing in at most one chosen group, pinned
    items in exactly one, and sum((size_g - 1) x_g) >= target.

    Raises:
        InvalidInputError: there are too many possible groups to choose among.
    """
    groups = _candidates(table)
    if not groups:
        return []
    saved = np.array([len(group) - 1 for group in groups], dtype=np.float64)
    costs = np.array([table.cost(group) for group in groups])
    membership = _membership(groups, table)
    chosen = None if target is None else _solve(costs, membership, saved=saved, target=target)
    if chosen is None:
        most = _solve(-saved, membership, saved=saved, target=0)
        if most is None:
            raise InvalidInputError("pins contradict each other: no grouping respects all of them")
        chosen = _solve(costs, membership, saved=saved, target=int(saved[most].sum()))
    return [groups[place] for place in np.flatnonzero(chosen)] if chosen is not None else []


def _candidates(table: PairTable) -> list[tuple[int, ...]]:
    """All groups of two and more whose members may all share, none of which cuts a pinned set in two."""
    neighbours = [np.flatnonzero(row < np.inf) for row in table.distances]
    found: list[tuple[int, ...]] = []
    level: list[tuple[int, ...]] = [(place,) for place in range(len(table.items))]
    for _ in range(table.max_group_size - 1):
        level = [
            (*group, int(other))
            for group in level
            for other in neighbours[group[-1]]
            if other > group[-1] and all(table.distances[member, other] < np.inf for member in group)
        ]
        found += level
        if len(found) > MAX_CANDIDATES:
            raise InvalidInputError(
                f"over {MAX_CANDIDATES:,} possible groups of {len(table.items)} items; give a threshold, "
                "only the nearest pairs' distances, or a step-by-step method"
            )
    seeds = [set(seed) for seed in table.seeds]
    return [group for group in found if all(len(seed & set(group)) in (0, len(seed)) for seed in seeds)]


def _membership(groups: Sequence[tuple[int, ...]], table: PairTable) -> LinearConstraint:
    columns = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    rows = np.concatenate([np.array(group) for group in groups])
    matrix = csr_array((np.ones(len(rows)), (rows, columns)), shape=(len(table.items), len(groups)))
    least = np.zeros(len(table.items))
    least[[place for seed in table.seeds for place in seed]] = 1
    return LinearConstraint(matrix, least, np.ones(len(table.items)))


def _solve(
    objective: NDArray[np.float64], membership: LinearConstraint, *, saved: NDArray[np.float64], target: int
) -> NDArray[np.bool_] | None:
    """Chosen groups [num_groups], or None when nothing respects the constraints."""
    result = milp(
        objective,
        integrality=np.ones(len(objective), dtype=np.int64),
        bounds=Bounds(0, 1),
        constraints=[membership, LinearConstraint(csr_array(saved[None, :]), target, np.inf)],
        options={"mip_rel_gap": 0.0},
    )
    return None if result.x is None else result.x > 0.5
