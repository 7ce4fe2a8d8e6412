"""Distances: what must hold for any clouds, and POT itself as the oracle."""

from __future__ import annotations

import numpy as np
import ot
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.errors import InvalidInputError
from scoring.merging.bounds import distance_profile, first_bound, second_bound
from scoring.merging.distances import GwSettings, estimated_distance, gw_distance, noise_floor, third_bound
from scoring.merging.relations import relate
from tests.made_clouds import blobs, cloud, moved, textlike

seeds = st.integers(0, 2**32 - 1)


copies = given(seeds, st.integers(4, 24), st.integers(1, 6), st.integers(0, 2))
pairs = given(seeds, st.integers(2, 20), st.integers(2, 20), st.integers(1, 5))
some = settings(deadline=None, max_examples=200)
thousands = settings(deadline=None, max_examples=3000)


@copies
@some
def test_a_moved_copy_is_at_distance_zero(seed: int, n: int, num_dims: int, num_duplicates: int) -> None:
    check_moved_copy(seed, n, num_dims, num_duplicates)


@pytest.mark.long
@copies
@thousands
def test_thousands_of_moved_copies(seed: int, n: int, num_dims: int, num_duplicates: int) -> None:
    check_moved_copy(seed, n, num_dims, num_duplicates)


def check_moved_copy(seed: int, n: int, num_dims: int, num_duplicates: int) -> None:
    points = blobs(seed, num_answers=n, num_dims=num_dims, num_duplicates=num_duplicates)
    result = gw_distance(relate(points), relate(moved(points, seed)), GwSettings())
    assert 0 <= result.distance <= 1e-6
    assert result.lower_bound <= 1e-6


@pytest.mark.parametrize("start", ["annealed", "tlb"])
def test_a_large_moved_copy_is_found_from_either_start(start: str) -> None:
    points = textlike(0, num_answers=250)
    result = gw_distance(relate(points), relate(moved(points, 1)), GwSettings(starts=(start,)))
    assert result.distance <= 1e-6


@pairs
@some
def test_bounds_lie_below_a_distance_that_is_symmetric(seed: int, n: int, m: int, num_dims: int) -> None:
    check_pair(seed, n, m, num_dims)


@pytest.mark.long
@pairs
@thousands
def test_thousands_of_pairs(seed: int, n: int, m: int, num_dims: int) -> None:
    check_pair(seed, n, m, num_dims)


def check_pair(seed: int, n: int, m: int, num_dims: int) -> None:
    first = relate(blobs(seed, num_answers=n, num_dims=num_dims))
    second = relate(blobs(seed + 1, num_answers=m, num_dims=num_dims))
    there, back = gw_distance(first, second, GwSettings()), gw_distance(second, first, GwSettings())
    assert there.distance == back.distance
    np.testing.assert_array_equal(there.plan, back.plan.T)
    third = (2 * there.lower_bound) ** 2
    profiles = distance_profile(first) - distance_profile(second)
    assert np.sum(profiles**2) <= second_bound(first, second) + 1e-12
    assert max(first_bound(first, second), second_bound(first, second)) <= third + 1e-9
    assert third <= (2 * there.distance) ** 2 + 1e-9


def test_a_distance_is_half_the_root_of_what_pot_gives() -> None:
    first, second = (relate(blobs(seed, num_answers=40, num_dims=4)) for seed in (1, 2))
    plain = ot.gromov.gromov_wasserstein2(first.matrix, second.matrix)
    result = gw_distance(first, second, GwSettings(starts=("uniform",), max_iter=1000, tol_rel=1e-9))
    assert result.distance == pytest.approx(np.sqrt(plain) / 2)
    assert result.start == "uniform"


def test_torch_multiplies_to_the_same_distance() -> None:
    first, second = (relate(blobs(seed, num_answers=n, num_dims=8)) for seed, n in ((1, 60), (2, 50)))
    plain = gw_distance(first, second, GwSettings())
    placed = gw_distance(first, second, GwSettings(), device="cpu")
    assert placed.distance == pytest.approx(plain.distance, abs=1e-9)
    assert isinstance(placed.plan, np.ndarray)
    np.testing.assert_allclose(placed.plan, plain.plan, atol=1e-9)
    turned = gw_distance(second, first, GwSettings(), device="cpu")
    assert turned.distance == placed.distance


def test_a_distance_is_that_of_its_plan() -> None:
    first, second = (relate(blobs(seed, num_answers=n, num_dims=2)) for seed, n in ((3, 7), (4, 9)))
    result = gw_distance(first, second, GwSettings())
    np.testing.assert_allclose(result.plan.sum(axis=1), 1 / 7)
    np.testing.assert_allclose(result.plan.sum(axis=0), 1 / 9)
    gaps = (first.matrix[:, None, :, None] - second.matrix[None, :, None, :]) ** 2
    assert result.distance == pytest.approx(
        np.sqrt(np.einsum("ijkl,ij,kl->", gaps, result.plan, result.plan)) / 2
    )


def test_more_starts_never_make_a_small_clouds_distance_larger() -> None:
    for seed in range(20):
        first, second = (relate(blobs(seed + k, num_answers=40, num_dims=5)) for k in (0, 100))
        alone = {
            start: gw_distance(first, second, GwSettings(starts=(start,))).distance
            for start in ("annealed", "tlb", "uniform")
        }
        together = gw_distance(first, second, GwSettings(starts=("annealed", "tlb", "uniform")))
        assert together.distance == min(alone.values())
        assert alone[together.start] == together.distance


def test_on_clouds_like_text_the_annealed_start_ends_well_below_the_others() -> None:
    ends = {start: [] for start in ("annealed", "tlb", "uniform")}
    for seed in range(4):
        first, second = (relate(textlike(seed + k, num_answers=200)) for k in (0, 100))
        for start, found in ends.items():
            found.append(gw_distance(first, second, GwSettings(starts=(start,))).distance)
    means = {start: float(np.mean(found)) for start, found in ends.items()}
    assert means["annealed"] < 0.95 * min(means["tlb"], means["uniform"])


def test_an_answer_that_stands_twice_weighs_twice() -> None:
    points = blobs(5, num_answers=12, num_dims=3)
    assert gw_distance(relate(points), relate(np.repeat(points, 2, axis=0)), GwSettings()).distance <= 1e-6


def test_a_cloud_without_extent_is_half_a_unit_from_any_other() -> None:
    nothing, something = relate(np.ones((6, 2))), relate(blobs(1, num_answers=6, num_dims=2))
    assert gw_distance(nothing, something, GwSettings()).distance == pytest.approx(0.5)
    assert gw_distance(nothing, nothing, GwSettings()).distance == 0.0


def test_a_clouds_size_counts_with_a_common_scale_only() -> None:
    points = blobs(6, num_answers=20, num_dims=3)
    one, three = cloud("one", points), cloud("three", 3 * points)
    own, common = GwSettings(), GwSettings(scale=5.0)
    assert gw_distance(own.relations(one), own.relations(three), own).distance <= 1e-6
    assert gw_distance(common.relations(one), common.relations(three), common).distance > 0.1


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("num_kinds", [5, 115])
def test_large_copies_are_no_distance_apart(seed: int, num_kinds: int) -> None:
    """Rounding takes GW^2 of copies below 0: no start may be ruled out by that."""
    rng = np.random.default_rng(seed)
    points = np.resize(rng.normal(size=(num_kinds, 3)), (115, 3))
    moved = points @ np.linalg.qr(rng.normal(size=(3, 3)))[0] + rng.normal(size=3)
    assert gw_distance(relate(points), relate(moved), GwSettings()).distance < 1e-6


def test_estimated_distances_rank_as_distances_do() -> None:
    apart = np.linspace(0.0, 1.5, 12)
    base = blobs(7, num_answers=60, num_dims=4)
    stretched = [relate(base * np.array([1 + gap, 1, 1, 1])) for gap in apart]
    coarse = [
        estimated_distance(stretched[0].matrix.astype(np.float32), other.matrix.astype(np.float32))
        for other in stretched
    ]
    solved = [gw_distance(stretched[0], other, GwSettings()).distance for other in stretched]
    assert np.corrcoef(coarse, solved)[0, 1] > 0.95


def test_the_third_bound_alone_is_the_one_beside_a_distance() -> None:
    first, second = (relate(blobs(seed, num_answers=15, num_dims=3)) for seed in (8, 9))
    bound = third_bound(first, second)
    result = gw_distance(first, second, GwSettings(), bound=bound)
    assert bound.distance == result.lower_bound == gw_distance(first, second, GwSettings()).lower_bound
    back = gw_distance(second, first, GwSettings(), bound=third_bound(second, first))
    assert back.distance == result.distance


def test_the_noise_floor_falls_with_the_number_of_answers() -> None:
    floors = [noise_floor(cloud("ramp", textlike(1, num_answers=2 * n)), GwSettings()) for n in (20, 60, 180)]
    assert floors[0] > floors[1] > floors[2] > 0


def test_the_noise_floor_compares_two_halves_of_no_more_answers_than_a_distance() -> None:
    points = blobs(2, num_answers=60, num_dims=3).astype(np.float32)
    settings = GwSettings(num_answers=20)
    direct = gw_distance(relate(points[:20]), relate(points[20:40]), settings)
    assert noise_floor(cloud("ramp", points), settings) == direct.distance


def test_a_noise_floor_needs_two_samples() -> None:
    with pytest.raises(InvalidInputError, match="item ramp: 3 answers; a noise floor needs at least 4"):
        noise_floor(cloud("ramp", np.eye(3)), GwSettings())


@pytest.mark.parametrize("starts", [(), ("tlb", "random")])
def test_unknown_starts_are_refused(starts: tuple[str, ...]) -> None:
    with pytest.raises(InvalidInputError, match="name one or more of annealed, tlb, uniform"):
        GwSettings(starts=starts)


def test_a_scale_is_above_zero() -> None:
    with pytest.raises(InvalidInputError, match="a scale is above 0"):
        GwSettings(scale=0.0)


def test_one_answer_is_too_few() -> None:
    with pytest.raises(InvalidInputError, match="num_answers is 1"):
        GwSettings(num_answers=1)
