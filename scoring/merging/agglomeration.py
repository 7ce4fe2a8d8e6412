"""Groups step by step: always the merge that looks best now, as GW-SMM and most tools do."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from scoring.merging.pairs import PairTable


def agglomerate(
    table: PairTable, *, target: int | None, by: Literal["greedy", "average_linkage"]
) -> list[tuple[int, ...]]:
    """Merge clusters until `target` extractors are saved or nothing may be merged any more."""
    alone = set(range(len(table.items))) - {place for seed in table.seeds for place in seed}
    clusters = [*table.seeds, *((place,) for place in sorted(alone))]
    while target is None or len(table.items) - len(clusters) < target:
        best: tuple[float, int, int] | None = None
        for a, b in combinations(range(len(clusters)), 2):
            if len(clusters[a]) + len(clusters[b]) > table.max_group_size:
                continue
            between = table.distances[np.ix_(clusters[a], clusters[b])]
            if np.isinf(between).any():
                continue
            merged = clusters[a] + clusters[b]
            added = table.cost(merged) - table.cost(clusters[a]) - table.cost(clusters[b])
            score = float(between.mean()) if by == "average_linkage" else added
            if best is None or score < best[0]:
                best = score, a, b
        if best is None:
            break
        _, a, b = best
        merged = clusters[a] + clusters[b]
        clusters = [c for i, c in enumerate(clusters) if i not in (a, b)] + [merged]
    return [cluster for cluster in clusters if len(cluster) > 1]
