"""All groups that the rules allow, as columns: who is in them and what they cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scoring.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from scoring.merging.pairs import PairTable

#: More do not fit into memory comfortably.
MAX_CANDIDATES = 5_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Groups that may be chosen.

    Attributes:
        members: places of a group's items, ascending, -1 where it has fewer [num_groups, max_group_size]
        sizes: items in each group [num_groups]
        costs: (size - 1) times the mean distance within [num_groups]
    """

    members: NDArray[np.int32]
    sizes: NDArray[np.int64]
    costs: NDArray[np.float64]

    @classmethod
    def of(cls, table: PairTable) -> Candidates:
        """All groups of two and more whose members may all share, none of which cuts a pinned set in two.

        Raises:
            InvalidInputError: there are more than can be held.
        """
        level, sums = np.arange(len(table.items), dtype=np.int32)[:, None], np.zeros(len(table.items))
        members, costs, num_found = [], [], 0
        for size in range(2, table.max_group_size + 1):
            level, sums = _extended(level, sums, table)
            num_found += len(level)
            if num_found > MAX_CANDIDATES:
                raise _too_many(table)
            whole = _keeps_seeds_whole(level, table.seeds)
            members.append(
                np.pad(level[whole], ((0, 0), (0, table.max_group_size - size)), constant_values=-1)
            )
            costs.append(sums[whole] * 2 / size)
        found = np.concatenate(members)
        return cls(found, (found >= 0).sum(axis=1), np.concatenate(costs))

    def __len__(self) -> int:
        return len(self.sizes)

    def group(self, place: int) -> tuple[int, ...]:
        """The items of one group."""
        return tuple(int(item) for item in self.members[place, : self.sizes[place]])

    def find(self, groups: Iterable[tuple[int, ...]]) -> NDArray[np.intp]:
        """Places of exactly these groups."""
        width = self.members.shape[1]
        rows = [np.pad(group, (0, width - len(group)), constant_values=-1) for group in groups]
        places = [np.flatnonzero((self.members == row).all(axis=1)) for row in rows]
        return np.concatenate([*places, np.empty(0, dtype=np.intp)])


def _extended(
    level: NDArray[np.int32], sums: NDArray[np.float64], table: PairTable
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Each group with each later item that may join all its members, and the distances within."""
    num_items = len(table.items)
    if len(level) * num_items > 20 * MAX_CANDIDATES:
        raise _too_many(table)
    allowed = np.isfinite(table.distances)
    may_join = np.arange(num_items) > level[:, -1:]
    for member in level.T:
        may_join &= allowed[member]
    group, other = np.nonzero(may_join)
    grown = np.column_stack([level[group], other.astype(np.int32)])
    return grown, sums[group] + sum(table.distances[member, other] for member in level[group].T)


def _keeps_seeds_whole(level: NDArray[np.int32], seeds: Iterable[tuple[int, ...]]) -> NDArray[np.bool_]:
    whole = np.ones(len(level), dtype=bool)
    for seed in seeds:
        num_inside = np.isin(level, seed).sum(axis=1)
        whole &= (num_inside == 0) | (num_inside == len(seed))
    return whole


def _too_many(table: PairTable) -> InvalidInputError:
    return InvalidInputError(
        f"over {MAX_CANDIDATES:,} possible groups of {len(table.items)} items; give a threshold, only the "
        "nearest pairs' distances, or a step-by-step method"
    )
