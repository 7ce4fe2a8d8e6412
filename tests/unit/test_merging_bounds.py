"""The lower bounds against their definitions; that they hold against the solver is tested beside it."""

from __future__ import annotations

from math import lcm

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.merging.bounds import (
    distance_profile,
    eccentricities,
    first_bound,
    second_bound,
    third_bound_costs,
)
from scoring.merging.relations import Relations, relate
from tests.made_clouds import blobs, textlike

seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(2, 12)


def squared_w2(values: np.ndarray, others: np.ndarray) -> float:
    """Both samples repeated to one length and sorted: W2^2 on the line by its definition."""
    length = lcm(len(values), len(others))
    repeated = [np.sort(np.repeat(array, length // len(array))) for array in (values, others)]
    return float(((repeated[0] - repeated[1]) ** 2).mean())


@given(seeds, sizes, sizes)
@settings(deadline=None, max_examples=300)
def test_first_and_second_bound_are_w2_on_the_line(seed: int, n: int, m: int) -> None:
    first, second = made(seed, n), made(seed + 1, m)
    assert first_bound(first, second) == pytest.approx(
        squared_w2(eccentricities(first), eccentricities(second)), abs=1e-12
    )
    assert second_bound(first, second) == pytest.approx(
        squared_w2(first.matrix.ravel(), second.matrix.ravel()), abs=1e-12
    )


@given(seeds, sizes, sizes)
@settings(deadline=None, max_examples=200)
def test_costs_of_the_third_bound_are_w2_between_rows(seed: int, n: int, m: int) -> None:
    first, second = made(seed, n), made(seed + 1, m)
    costs = third_bound_costs(first, second)
    direct = [[squared_w2(row, other) for other in second.matrix] for row in first.matrix]
    np.testing.assert_allclose(costs, direct, atol=1e-9)


@given(seeds, st.integers(2, 40), st.integers(2, 40), st.integers(1, 64))
@settings(deadline=None, max_examples=1000)
def test_profiles_never_exceed_the_second_bound(seed: int, n: int, m: int, num_cells: int) -> None:
    first, second = made(seed, n), made(seed + 1, m)
    profiles = [distance_profile(relations, num_cells) for relations in (first, second)]
    assert np.sum((profiles[0] - profiles[1]) ** 2) <= second_bound(first, second) + 1e-12


def test_sixty_four_cells_lose_little_of_the_second_bound() -> None:
    kept = []
    for seed in range(20):
        first, second = relate(textlike(seed, num_answers=150)), relate(textlike(seed + 50, num_answers=150))
        profiles = [distance_profile(relations) for relations in (first, second)]
        kept.append(np.sum((profiles[0] - profiles[1]) ** 2) / second_bound(first, second))
    assert np.median(kept) > 0.95


def made(seed: int, num_answers: int) -> Relations:
    return relate(blobs(seed, num_answers=num_answers, num_dims=3))
