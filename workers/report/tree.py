"""Items in the order in which they cluster: average linkage over their distances, as a tree and a matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.cluster.hierarchy import dendrogram, linkage
from scipy.spatial.distance import squareform

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Tree:
    """Items in the order of the tree's leaves.

    Attributes:
        items: names, in the order of the leaves
        distances: between them, nan where a pair was not compared [num_items, num_items]
        links: of two branches each: where they stand among the leaves, from 0, and how high; four points
    """

    items: Sequence[str]
    distances: NDArray[np.float64]
    links: Sequence[tuple[Sequence[float], Sequence[float]]]

    @property
    def height(self) -> float:
        """Distance at which the last two branches meet."""
        return max(max(heights) for _, heights in self.links)


def grow(distances: Mapping[tuple[str, str], float]) -> Tree | None:
    """The tree of all items that were compared; None for less than one pair.

    A pair that was not compared counts as far apart as the farthest one: it never pulls branches together.
    """
    names = sorted({name for pair in distances for name in pair})
    if len(names) < 2:
        return None
    places = {name: place for place, name in enumerate(names)}
    matrix = np.full((len(names), len(names)), np.nan)
    np.fill_diagonal(matrix, 0.0)
    for (first, second), distance in distances.items():
        matrix[places[first], places[second]] = matrix[places[second], places[first]] = distance
    known = np.where(np.isnan(matrix), np.nanmax(matrix), matrix)
    drawn = dendrogram(linkage(squareform(known, checks=False), method="average"), no_plot=True)
    order = [int(place) for place in drawn["leaves"] or ()]
    # scipy puts leaves at 5, 15, 25, ...
    links = [
        ([(place - 5.0) / 10.0 for place in across], list(heights))
        for across, heights in zip(drawn["icoord"], drawn["dcoord"], strict=True)
    ]
    return Tree([names[place] for place in order], matrix[np.ix_(order, order)], links)
