"""Whether the shares of a scorer's levels have moved; counts come in, one number goes out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def population_stability_index(counts: ArrayLike, reference: ArrayLike) -> float:
    """`sum over levels of (p - q) ln(p / q)`, p and q being shares with half an answer added to each level.

    The half answer keeps a level that one side never shows from making the sum infinite. Below about 200
    answers on either side the index is mostly noise: without any drift, 25 answers against 400 exceed 0.1 in
    every second trial, 200 against 400 in one of a hundred.

    Args:
        counts: answers by level now [num_levels]
        reference: answers by level before [num_levels]
    """
    p, q = (np.asarray(column, dtype=np.float64) + 0.5 for column in (counts, reference))
    p, q = p / p.sum(), q / q.sum()
    return float(((p - q) * np.log(p / q)).sum())
