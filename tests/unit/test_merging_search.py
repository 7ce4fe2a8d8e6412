"""The search: branch and bound against solving all, what is reused, and what the ladder misses."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.errors import InvalidInputError
from scoring.merging.crew import ROUNDING, Crew
from scoring.merging.distances import GwSettings, gw_distance
from scoring.merging.field import PairField
from scoring.merging.search import PairDistance, Rung, SearchEffort, SearchReport, nearest_pairs
from tests.made_clouds import blobs, cloud, textlike

if TYPE_CHECKING:
    from scoring.merging.clouds import FeatureCloud

#: One start: faster, and the search does not care how a distance comes about.
QUICK = GwSettings(starts=("tlb",))
ALL = {"num_pairs": None, "threshold": None, "settings": QUICK}


@given(st.integers(0, 2**32 - 1), st.integers(2, 7), st.integers(1, 12), st.floats(0, 0.5))
@settings(deadline=None, max_examples=100)
def test_branch_and_bound_gives_the_same_pairs_as_solving_all(
    seed: int, num_items: int, num_pairs: int, threshold: float
) -> None:
    clouds = family(seed, num_items=num_items, num_answers=10)
    everything = ranked(nearest_pairs(clouds, **ALL))
    for wanted in ((num_pairs, None), (None, threshold), (num_pairs, threshold)):
        report = nearest_pairs(clouds, num_pairs=wanted[0], threshold=wanted[1], settings=QUICK)
        within = [pair for pair in everything if wanted[1] is None or pair[0] <= wanted[1]]
        assert ranked(report) == within[: wanted[0]]
        assert report.certified_share == report.recall == 1.0


def test_solving_all_gives_each_pairs_distance() -> None:
    clouds = family(1, num_items=4, num_answers=12)
    relations = {one.item_id: QUICK.relations(one) for one in clouds}
    report = nearest_pairs(clouds, **ALL)
    assert report.num_solved == report.num_pairs == len(report.pairs) == 6
    for pair in report.pairs:
        direct = gw_distance(relations[pair.first], relations[pair.second], QUICK)
        assert (pair.distance, pair.lower_bound) == (direct.distance, direct.lower_bound)
        assert pair.solved
        assert pair.certified


def test_what_the_search_prunes_by_never_exceeds_a_distance_nor_says_little() -> None:
    """Moved, stretched and other clouds: pruning by a bound that is too high would lose pairs unseen."""
    plain = blobs(3, num_answers=30, num_dims=3)
    stretched = [plain * np.array([1.0, 1.0, 1.0 + step]) for step in (0.0, 0.5, 2.0, 8.0)]
    shapes = [*stretched, *(blobs(seed, num_answers=25 + seed, num_dims=3) for seed in range(6))]
    field = PairField(
        [cloud(f"item{place}", points) for place, points in enumerate(shapes)],
        settings=GwSettings(),
        rungs=[20],
    )
    at_first = field.lower.copy()
    field.solve(np.arange(len(field)), Crew(), cutoff=np.inf)
    assert np.all(at_first <= field.distances + ROUNDING)
    assert np.all(field.lower <= field.distances + ROUNDING)
    assert np.median(at_first / field.distances) > 0.25


def test_bounds_spare_most_of_the_work_where_clouds_differ() -> None:
    clouds = [
        cloud(f"item{place:02}", blobs(place % 5, num_answers=40, num_dims=2) + noise)
        for place, noise in enumerate(np.random.default_rng(0).normal(size=(15, 40, 2)) * 0.01)
    ]
    report = nearest_pairs(clouds, num_pairs=15, threshold=None, settings=QUICK)
    assert ranked(report) == ranked(nearest_pairs(clouds, **ALL))[:15]
    assert report.num_solved < 60
    assert report.num_solved + report.num_bounded_away == report.num_pairs == 105
    assert report.cutoff == report.pairs[-1].distance


def test_unchanged_pairs_are_not_solved_again() -> None:
    clouds = family(2, num_items=6, num_answers=12)
    first = nearest_pairs(clouds, **ALL)
    changed = [*clouds[:-1], cloud(clouds[-1].item_id, blobs(77, num_answers=12, num_dims=3))]
    second = nearest_pairs(changed, **ALL, known=keyed(clouds, first))
    assert (second.num_solved, second.num_reused) == (5, 10)
    assert second.pairs == nearest_pairs(changed, **ALL).pairs


def test_what_is_known_counts_in_either_order_and_under_a_new_name() -> None:
    clouds = family(3, num_items=4, num_answers=12)
    known = {(b, a): pair for (a, b), pair in keyed(clouds, nearest_pairs(clouds, **ALL)).items()}
    renamed = [replace(one, item_id=f"z{9 - place}") for place, one in enumerate(clouds)]
    report = nearest_pairs(renamed, **ALL, known=known)
    assert (report.num_solved, report.num_reused) == (0, 6)
    assert {(pair.first, pair.second) for pair in report.pairs} == set(
        itertools.combinations(sorted(one.item_id for one in renamed), 2)
    )


def test_only_items_of_one_block_are_compared() -> None:
    clouds = [
        replace(one, block="en" if place < 3 else "de")
        for place, one in enumerate(family(4, num_items=5, num_answers=10))
    ]
    report = nearest_pairs(clouds, **ALL)
    assert report.num_pairs == 4
    assert {(pair.first, pair.second) for pair in report.pairs} == {
        ("item0", "item1"), ("item0", "item2"), ("item1", "item2"), ("item3", "item4")
    }  # fmt: skip


def test_clouds_of_unequal_size_are_compared_as_they_are() -> None:
    clouds = [cloud(f"item{n}", blobs(n, num_answers=n, num_dims=3)) for n in (8, 13, 21)]
    report = nearest_pairs(clouds, num_pairs=None, threshold=None, settings=replace(QUICK, num_answers=15))
    assert {(pair.first, pair.second): pair.num_answers for pair in report.pairs} == {
        ("item13", "item8"): 8, ("item13", "item21"): 13, ("item21", "item8"): 8
    }  # fmt: skip


def test_progress_is_told_up_to_the_end() -> None:
    told: list[tuple[int, int]] = []
    nearest_pairs(family(5, num_items=9, num_answers=8), **ALL, on_progress=lambda *count: told.append(count))
    assert told == [(32, 36), (36, 36)]


def test_processes_find_what_one_finds() -> None:
    clouds = family(6, num_items=5, num_answers=15)
    alone = nearest_pairs(clouds, **ALL)
    helped = nearest_pairs(clouds, **ALL, effort=SearchEffort(num_processes=2))
    assert helped.pairs == alone.pairs


@pytest.fixture(scope="module")
def crowd() -> list[FeatureCloud]:
    """Clouds of ten kinds, those of one kind a little apart from each other."""
    rng = np.random.default_rng(8)
    kinds = [textlike(kind, num_answers=200, num_dims=12) for kind in range(10)]
    return [
        cloud(
            f"item{place:02}",
            rng.permutation(kinds[place % 10])[:60]
            @ (np.eye(12) + rng.uniform(0, 0.2) * rng.normal(size=(12, 12))),
        )
        for place in range(60)
    ]


LADDER = SearchEffort(
    max_exact_pairs=100,
    rungs=(Rung(15, 0.4, 3), Rung(30, 0.2, 2)),
    num_trials=60,
    num_local_trials=10,
    num_audited=90,
)


@pytest.fixture(scope="module")
def everything(crowd: list[FeatureCloud]) -> SearchReport:
    return nearest_pairs(crowd, **ALL)


@pytest.fixture(scope="module")
def climbed(crowd: list[FeatureCloud]) -> SearchReport:
    return nearest_pairs(crowd, num_pairs=30, threshold=None, settings=QUICK, effort=LADDER)


def test_the_ladder_finds_the_nearest_without_solving_most(
    everything: SearchReport, climbed: SearchReport
) -> None:
    found = {pair[1:] for pair in ranked(climbed)} & {pair[1:] for pair in ranked(everything)[:30]}
    assert len(climbed.pairs) == 30
    assert len(found) >= 24
    assert climbed.num_solved < climbed.num_pairs / 3
    assert sum(not pair.solved for pair in climbed.examined) < climbed.num_pairs / 2
    num_trials = LADDER.num_trials + len(LADDER.rungs) * LADDER.num_local_trials
    assert climbed.num_sifted <= sum(rung.share * climbed.num_pairs + num_trials for rung in LADDER.rungs)


def test_the_ladder_says_what_is_certain_and_what_is_not(climbed: SearchReport) -> None:
    kinds = {(pair.solved, pair.certified) for pair in climbed.examined}
    assert (False, False) in kinds
    assert (True, False) not in kinds
    assert climbed.certified_share < 1
    assert all(
        pair.lower_bound > climbed.cutoff for pair in climbed.examined if pair.certified != pair.solved
    )


def test_the_audit_notices_a_search_that_gives_up_early(crowd: list[FeatureCloud]) -> None:
    hasty = replace(LADDER, rungs=(Rung(30, 0.002, 0),), num_trials=6, num_local_trials=0, num_audited=600)
    report = nearest_pairs(crowd, num_pairs=200, threshold=None, settings=QUICK, effort=hasty)
    # As many of each stratum, and all of those that are smaller.
    assert 400 < report.num_audited < 600
    assert report.recall < 0.8


def test_the_next_night_costs_what_has_changed(crowd: list[FeatureCloud], climbed: SearchReport) -> None:
    changed = [cloud(crowd[0].item_id, crowd[1].features * 1.5), *crowd[1:]]
    limits = {"num_pairs": 30, "threshold": None, "settings": QUICK, "effort": LADDER}
    report = nearest_pairs(changed, **limits, known=keyed(crowd, climbed), judged=climbed.judged)
    num_new = len(crowd) - 1
    assert 0 < report.num_solved <= num_new
    # The forecast learns from known distances, whose estimates are made again on each of the two rungs.
    assert report.num_sifted <= 2 * (num_new + LADDER.num_trials + LADDER.num_local_trials)
    assert report.num_reused == sum(
        pair.solved for pair in climbed.examined if crowd[0].item_id not in (pair.first, pair.second)
    )
    assert (report.pairs[0].first, report.pairs[0].second) == ("item00", "item01")
    assert report.pairs[0].distance < 1e-6


def test_coarse_distances_of_another_sample_size_are_not_taken_over(
    crowd: list[FeatureCloud], climbed: SearchReport
) -> None:
    known = keyed(crowd, climbed)
    limits = {"num_pairs": 30, "threshold": None, "settings": QUICK, "known": known, "judged": climbed.judged}
    same = nearest_pairs(crowd, **limits, effort=LADDER)
    other = nearest_pairs(crowd, **limits, effort=replace(LADDER, rungs=(Rung(20, 0.3, 1),)))
    assert same.num_sifted == 0
    assert same.num_solved == 0
    assert other.num_sifted > 3 * LADDER.num_trials


def test_what_no_search_has_judged_is_looked_at(crowd: list[FeatureCloud], climbed: SearchReport) -> None:
    """A run that was killed leaves distances, but no judgement; and more may be asked for than before."""
    known = keyed(crowd, climbed)
    limits = {"threshold": None, "settings": QUICK, "known": known, "effort": LADDER}
    unjudged = nearest_pairs(crowd, num_pairs=30, **limits)
    assert unjudged.num_sifted > 0
    more = nearest_pairs(crowd, num_pairs=len(known), **limits, judged=climbed.judged)
    assert len(more.pairs) == len(known)
    assert more.num_solved > 0


def test_some_pairs_are_solved_in_any_case(crowd: list[FeatureCloud], everything: SearchReport) -> None:
    far = everything.pairs[-1]
    asked = [(far.second, far.first), ("item00", "nobody"), ("item00", "item00")]
    report = nearest_pairs(crowd, num_pairs=30, threshold=None, settings=QUICK, effort=LADDER, always=asked)
    assert len(report.pairs) == 31
    assert (report.pairs[-1].first, report.pairs[-1].second) == (far.first, far.second)
    assert report.pairs[-1].distance == far.distance


def test_the_middle_pair_is_known_about(everything: SearchReport, climbed: SearchReport) -> None:
    distances = [pair.distance for pair in everything.pairs]
    assert everything.middle == np.median(distances)
    assert abs(climbed.middle - everything.middle) < np.std(distances) / 4


def test_only_what_is_fresh_needs_to_be_kept(crowd: list[FeatureCloud], climbed: SearchReport) -> None:
    again = nearest_pairs(
        crowd,
        num_pairs=30,
        threshold=None,
        settings=QUICK,
        known=keyed(crowd, climbed),
        judged=climbed.judged,
        effort=LADDER,
    )
    assert again.fresh == ()
    assert again.pairs == climbed.pairs
    assert set(climbed.fresh) == set(climbed.examined)


def test_nothing_to_compare_is_no_error() -> None:
    assert nearest_pairs([], **ALL).pairs == ()
    assert nearest_pairs(family(1, num_items=1, num_answers=5), **ALL).num_pairs == 0


def test_an_item_stands_once() -> None:
    one = family(1, num_items=1, num_answers=5)
    with pytest.raises(InvalidInputError, match="item item0: two clouds"):
        nearest_pairs([*one, *one], **ALL)


def test_limits_below_zero_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="neither may be negative"):
        nearest_pairs([], num_pairs=-1, threshold=None, settings=QUICK)


@pytest.mark.parametrize(
    "wrong",
    [
        {"rungs": (Rung(100, 0, 1),)},
        {"rungs": (Rung(1, 0.1, 1),)},
        {"rungs": (Rung(100, 0.1, 1), Rung(50, 0.1, 1))},
        {"rungs": (Rung(50, 0.1, 1), Rung(100, 0.2, 1))},
        {"batch_share": 2},
        {"num_trials": 1},
    ],
)
def test_an_effort_that_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidInputError):
        SearchEffort(**wrong)


def family(seed: int, *, num_items: int, num_answers: int) -> list[FeatureCloud]:
    return [
        cloud(f"item{place}", blobs(seed + place, num_answers=num_answers, num_dims=3))
        for place in range(num_items)
    ]


def ranked(report: SearchReport) -> list[tuple[float, str, str]]:
    return [(pair.distance, pair.first, pair.second) for pair in report.pairs]


def keyed(clouds: list[FeatureCloud], report: SearchReport) -> dict[tuple[str, str], PairDistance]:
    digest_of = {one.item_id: one.digest for one in clouds}
    return {(digest_of[pair.first], digest_of[pair.second]): pair for pair in report.examined}
