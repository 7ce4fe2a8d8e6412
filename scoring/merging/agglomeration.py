"""Groups step by step: always the merge that looks best now, as GW-SMM and most tools do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scoring.merging.pairs import PairTable


def agglomerate(
    table: PairTable, *, target: int | None, by: Literal["greedy", "average_linkage"]
) -> list[tuple[int, ...]]:
    """Merge clusters until `target` extractors are saved or no merge is allowed any more.

    "greedy" takes the merge that adds the least to the groups' cost, "average_linkage" the one with the least
    mean distance between the two clusters (UPGMA).
    """
    clusters = _Clusters(table)
    while target is None or clusters.num_saved < target:
        scores = clusters.added_costs() if by == "greedy" else clusters.mean_distances()
        best = int(np.argmin(scores))
        if not np.isfinite(scores.flat[best]):
            break
        first, second = sorted(divmod(best, len(scores)))
        clusters.merge(first, second)
    return clusters.groups()


class _Clusters:
    """Clusters and the sums of distances within and between them; a merged-away one has size 0."""

    def __init__(self, table: PairTable) -> None:
        self._max_size = table.max_group_size
        self._members: list[tuple[int, ...]] = [(place,) for place in range(len(table.items))]
        self._between = table.distances.copy()
        self._within = np.zeros(len(table.items))
        self._sizes = np.ones(len(table.items))
        for seed in table.seeds:
            for place in seed[1:]:
                self.merge(seed[0], place)

    @property
    def num_saved(self) -> int:
        return sum(len(members) - 1 for members in self._members if members)

    def groups(self) -> list[tuple[int, ...]]:
        return [tuple(sorted(members)) for members in self._members if len(members) > 1]

    def mean_distances(self) -> NDArray[np.float64]:
        """Between each two clusters; infinite where they may not merge [num_clusters, num_clusters]."""
        return self._allowed(self._between / np.maximum(np.outer(self._sizes, self._sizes), 1))

    def added_costs(self) -> NDArray[np.float64]:
        """Cost of each two clusters' union less their own; infinite where they may not merge."""
        own = self._cost(self._within, self._sizes)
        joined = self._cost(
            self._within[:, None] + self._within + self._between, self._sizes[:, None] + self._sizes
        )
        return self._allowed(joined - own[:, None] - own)

    def merge(self, first: int, second: int) -> None:
        """Put the second cluster into the first."""
        self._within[first] += self._within[second] + self._between[first, second]
        summed = self._between[first] + self._between[second]
        self._between[first], self._between[:, first] = summed, summed
        self._between[second], self._between[:, second] = np.inf, np.inf
        self._sizes[first] += self._sizes[second]
        self._sizes[second], self._within[second] = 0, 0.0
        self._members[first] += self._members[second]
        self._members[second] = ()

    def _allowed(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        too_large = self._sizes[:, None] + self._sizes > self._max_size
        allowed: NDArray[np.float64] = np.where(too_large, np.inf, scores)
        np.fill_diagonal(allowed, np.inf)
        return allowed

    @staticmethod
    def _cost(within: NDArray[np.float64], sizes: NDArray[np.float64]) -> NDArray[np.float64]:
        """(size - 1) times the mean of size * (size - 1) / 2 distances."""
        cost: NDArray[np.float64] = within * 2 / np.maximum(sizes, 1)
        return cost
