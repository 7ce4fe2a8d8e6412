"""Items made from real items' features: resampled, some mixed, each moved by a random linear map."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

_NUM_NEIGHBOURS = 10
_MIXED_SHARE = 0.3
#: Standard deviation over items of the map's distance from the identity, in the features' own units.
_STRENGTH = 0.3


def simulate(bases: Sequence[np.ndarray], *, num_items: int, num_answers: int, seed: int) -> list[np.ndarray]:
    """Features of `num_items` items, each made of one real item or of two [num_answers, hidden].

    An answer lies between a real one and one of its ten nearest, so that repeated ones differ. Strengths of
    the maps differ from item to item, so that some items of one origin stay close and others drift apart.
    """
    rng = np.random.default_rng(seed)
    neighbours = [_nearest(base) for base in bases]

    def draw(origin: int, num_rows: int) -> np.ndarray:
        base = bases[origin]
        enough = num_rows <= len(base)
        rows = rng.permutation(len(base))[:num_rows] if enough else rng.integers(len(base), size=num_rows)
        others = neighbours[origin][rows, rng.integers(_NUM_NEIGHBOURS, size=num_rows)]
        share = rng.uniform(0, 0.5, size=(num_rows, 1))
        return base[rows] + share * (base[others] - base[rows])

    items = []
    for place in range(num_items):
        num_mixed = int(num_answers * rng.uniform(0, 0.5)) if rng.random() < _MIXED_SHARE else 0
        own = draw(place % len(bases), num_answers - num_mixed)
        answers = np.vstack([own, draw(int(rng.integers(len(bases))), num_mixed)])
        dims = answers.shape[1]
        strength = abs(rng.normal(0, _STRENGTH))
        answers = answers + strength * (answers @ (rng.normal(size=(dims, dims)) / np.sqrt(dims)))
        items.append(rng.permutation(answers).astype(np.float32))
    return items


def _nearest(base: np.ndarray) -> np.ndarray:
    squares = (base**2).sum(axis=1)
    squared = squares[:, None] + squares[None] - 2 * base @ base.T
    np.fill_diagonal(squared, np.inf)
    return np.argsort(squared, axis=1)[:, :_NUM_NEIGHBOURS]
