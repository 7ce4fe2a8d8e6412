"""Items and the distances between them as one table, with everything that may not be merged taken out.

Knows the rules of a grouping, not how one is chosen.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from scoring.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from scoring.merging.groups import GroupRules


@dataclass(frozen=True, slots=True, eq=False)
class PairTable:
    """All distances that a grouping may use.

    Attributes:
        items: every item, sorted; the other fields count places in it
        distances: symmetric; infinite where two items may not share a group [num_items, num_items]
        seeds: disjoint sets of items that must stay together
        max_group_size: most items in one group
    """

    items: tuple[str, ...]
    distances: NDArray[np.float64]
    seeds: tuple[tuple[int, ...], ...]
    max_group_size: int

    @classmethod
    def of(
        cls, distances: Mapping[tuple[str, str], float], *, threshold: float | None, rules: GroupRules
    ) -> PairTable:
        """The table of these distances under these rules.

        Raises:
            InvalidInputError: a distance is no number, or pins contradict other rules.
        """
        pinned = frozenset[str]().union(*rules.together)
        items = tuple(sorted({item for pair in distances for item in pair} | pinned))
        place_of = {item: place for place, item in enumerate(items)}
        table = _measured(distances, place_of)
        _forbid(table, items, rules)
        seeds = _joined([place_of[item] for item in sorted(together)] for together in rules.together)
        _check_pins(table, items, seeds, rules)
        if threshold is not None:
            _cut(table, threshold, seeds)
        return cls(items, table, seeds, rules.max_group_size)

    def cost(self, group: Sequence[int]) -> float:
        """What a group costs: (size - 1) times the mean distance within."""
        within = self.distances[np.ix_(group, group)]
        return float(np.triu(within, 1).sum() * 2 / len(group))


def _measured(distances: Mapping[tuple[str, str], float], place_of: Mapping[str, int]) -> NDArray[np.float64]:
    table = np.full((len(place_of), len(place_of)), np.inf)
    for (first, second), distance in distances.items():
        if first == second or not np.isfinite(distance):
            raise InvalidInputError(
                f"pair {first} and {second}: distance {distance} is none between two items"
            )
        a, b = place_of[first], place_of[second]
        if np.isfinite(table[a, b]) and table[a, b] != distance:
            raise InvalidInputError(f"pair {first} and {second}: two distances, {table[a, b]} and {distance}")
        table[a, b] = table[b, a] = distance
    return table


def _forbid(table: NDArray[np.float64], items: Sequence[str], rules: GroupRules) -> None:
    blocks = [rules.blocks.get(item) for item in items]
    differs = np.array([[one != other for other in blocks] for one in blocks], dtype=bool)
    table[differs.reshape(table.shape)] = np.inf
    place_of = {item: place for place, item in enumerate(items)}
    for apart in rules.apart:
        places = [place_of[item] for item in apart if item in place_of]
        table[np.ix_(places, places)] = np.inf


def _joined(sets: Iterable[Iterable[int]]) -> tuple[tuple[int, ...], ...]:
    """Sets that share a member become one."""
    joined: list[set[int]] = []
    for members in map(set, sets):
        touching = [other for other in joined if other & members]
        joined = [other for other in joined if other not in touching]
        joined.append(members.union(*touching))
    return tuple(sorted(tuple(sorted(members)) for members in joined if len(members) > 1))


def _check_pins(
    table: NDArray[np.float64], items: Sequence[str], seeds: Iterable[Sequence[int]], rules: GroupRules
) -> None:
    for seed in seeds:
        names = ", ".join(items[place] for place in seed)
        if len(seed) > rules.max_group_size:
            raise InvalidInputError(
                f"items {names} are pinned together, but max_group_size is {rules.max_group_size}"
            )
        for a, b in combinations(seed, 2):
            if not np.isfinite(table[a, b]):
                raise InvalidInputError(
                    f"items {items[a]} and {items[b]} are pinned together, but are pinned apart, stand in "
                    "different blocks (backbone, adapter shape, language), or have no distance"
                )


def _cut(table: NDArray[np.float64], threshold: float, seeds: Iterable[Sequence[int]]) -> None:
    far = table > threshold
    for seed in seeds:
        far[np.ix_(seed, seed)] = False  # a person's word stands over the threshold
    table[far] = np.inf
