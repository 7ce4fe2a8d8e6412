"""Groups: the optimal ones against all there are, the step-by-step ones against scipy, the rules by name."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from scoring.errors import InvalidInputError
from scoring.merging import packing
from scoring.merging.groups import GroupRules, choose_groups

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Pairs = dict[tuple[str, str], float]
METHODS = ("optimal", "greedy", "average_linkage")


def pairs_of(table: np.ndarray) -> Pairs:
    names = [f"item{place:02}" for place in range(len(table))]
    return {(names[a], names[b]): float(table[a, b]) for a, b in itertools.combinations(range(len(table)), 2)}


def points_apart(seed: int, num_items: int) -> Pairs:
    points = np.random.default_rng(seed).normal(size=(num_items, 2))
    return pairs_of(np.linalg.norm(points[:, None] - points[None], axis=-1))


def cost(group: tuple[str, ...], distances: Mapping[tuple[str, str], float]) -> float:
    within = [
        distances.get(pair, distances.get(pair[::-1], np.inf)) for pair in itertools.combinations(group, 2)
    ]
    return (len(group) - 1) * float(np.mean(within)) if within else 0.0


def partitions(items: list[str], max_size: int) -> Iterator[list[tuple[str, ...]]]:
    """Every way to divide the items into groups of at most this size."""
    if not items:
        yield []
        return
    for size in range(min(max_size, len(items))):
        for others in itertools.combinations(items[1:], size):
            rest = [item for item in items[1:] if item not in others]
            for divided in partitions(rest, max_size):
                yield [(items[0], *others), *divided]


def best_by_trying_all(
    distances: Pairs, *, target: int, threshold: float, rules: GroupRules
) -> tuple[int, float]:
    """Most extractors saved up to the target, and the least cost of saving them."""
    items = sorted({item for pair in distances for item in pair})
    found = []
    for groups in partitions(items, rules.max_group_size):
        allowed = all(may_share(*pair, distances, threshold, rules) for group in groups
                      for pair in itertools.combinations(group, 2))  # fmt: skip
        whole = all(any(set(seed) <= set(group) for group in groups) for seed in rules.together)
        if allowed and whole:
            saved = sum(len(group) - 1 for group in groups)
            found.append((-min(saved, target), sum(cost(group, distances) for group in groups)))
    saved, least = min(found)
    return -saved, least


def may_share(one: str, other: str, distances: Pairs, threshold: float, rules: GroupRules) -> bool:
    pinned = any({one, other} <= seed for seed in rules.together)
    near = distances.get((one, other), np.inf) <= threshold or pinned
    apart = any({one, other} <= pair for pair in rules.apart)
    return near and not apart and rules.blocks.get(one) == rules.blocks.get(other)


@given(
    st.integers(0, 2**32 - 1),
    st.integers(2, 7),
    st.integers(2, 4),
    st.floats(0, 0.9),
    st.sampled_from([0.7, 1.5, np.inf]),
    st.booleans(),
)
@settings(deadline=None, max_examples=300)
def test_optimal_groups_are_the_best_there_are(
    seed: int, num_items: int, max_group_size: int, share_saved: float, threshold: float, pinned: bool
) -> None:
    distances = points_apart(seed, num_items)
    rng = np.random.default_rng(seed)
    blocks = {f"item{place:02}": str(rng.integers(2)) for place in range(num_items)} if seed % 3 == 0 else {}
    a, b, c = rng.permutation(max(num_items, 3))[:3]
    apart = frozenset({frozenset({f"item{a:02}", f"item{c:02}"})})
    together = frozenset({frozenset({f"item{a:02}", f"item{b:02}"})})
    fits = pinned and max(a, b) < num_items and not blocks
    rules = GroupRules(
        max_group_size=max_group_size,
        apart=apart,
        blocks=blocks,
        together=together if fits else frozenset(),
    )
    grouping = choose_groups(distances, share_saved=share_saved, threshold=threshold, rules=rules)
    target = int(share_saved * num_items + 1e-9)
    saved, least = best_by_trying_all(distances, target=target, threshold=threshold, rules=rules)
    assert grouping.proven
    assert min(grouping.num_extractors_saved, target) == saved
    assert grouping.cost == pytest.approx(least)
    assert grouping.cost == pytest.approx(sum(cost(group, distances) for group in grouping.groups))


@pytest.mark.parametrize("seed", range(8))
def test_groups_taken_in_little_by_little_are_as_good_as_all_at_once(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    costs = []
    for num_columns in (5, 1_000_000):
        monkeypatch.setattr(packing, "_NUM_COLUMNS", num_columns)
        grouping = choose_groups(points_apart(seed, 18), share_saved=0.5, threshold=None, rules=GroupRules())
        assert grouping.proven
        costs.append(grouping.cost)
    assert costs[0] == pytest.approx(costs[1])


@pytest.mark.parametrize("seed", range(4))
def test_what_halves_of_pairs_make_cheap_is_paid_for_in_whole_ones(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of each pair of a triangle saves one and a half extractors; whole pairs need one across."""
    rng = np.random.default_rng(seed)
    table = 1.0 + rng.uniform(0, 0.5, size=(9, 9))
    for start in (0, 3, 6):
        table[start : start + 3, start : start + 3] = rng.uniform(0.1, 0.2, size=(3, 3))
    distances, rules = pairs_of((table + table.T) / 2), GroupRules(max_group_size=2)
    monkeypatch.setattr(packing, "_NUM_COLUMNS", 5)
    grouping = choose_groups(distances, share_saved=4 / 9, threshold=None, rules=rules)
    saved, least = best_by_trying_all(distances, target=4, threshold=np.inf, rules=rules)
    assert grouping.proven
    assert (grouping.num_extractors_saved, saved) == (4, 4)
    assert grouping.cost == pytest.approx(least)


@pytest.mark.parametrize("num_items", [27, 60])
def test_chosen_together_groups_are_no_dearer_than_step_by_step(num_items: int) -> None:
    for seed in range(3):
        costs = {}
        for method in METHODS:
            grouping = choose_groups(
                points_apart(seed, num_items),
                share_saved=1 / 3,
                threshold=None,
                rules=GroupRules(),
                method=method,
            )
            assert grouping.num_extractors_saved == num_items // 3
            assert max(map(len, grouping.groups)) <= 3
            costs[method] = grouping.cost
        assert costs["optimal"] <= min(costs.values()) + 1e-9


def test_greedy_falls_for_the_nearest_pair_and_optimal_does_not() -> None:
    line = np.array([0.0, 1.0, 1.9, 2.9])
    distances = pairs_of(np.abs(line[:, None] - line[None]))
    rules = GroupRules(max_group_size=2)
    groups = {
        method: choose_groups(distances, share_saved=0.5, threshold=None, rules=rules, method=method).groups
        for method in METHODS
    }
    assert groups["greedy"] == groups["average_linkage"] == (("item00", "item03"), ("item01", "item02"))
    assert groups["optimal"] == (("item00", "item01"), ("item02", "item03"))


@given(st.integers(0, 2**32 - 1), st.integers(3, 12), st.floats(0.1, 0.8))
@settings(deadline=None, max_examples=100)
def test_average_linkage_without_rules_is_scipys(seed: int, num_items: int, share_saved: float) -> None:
    points = np.random.default_rng(seed).normal(size=(num_items, 3))
    table = np.linalg.norm(points[:, None] - points[None], axis=-1)
    grouping = choose_groups(
        pairs_of(table),
        share_saved=share_saved,
        threshold=None,
        rules=GroupRules(max_group_size=num_items),
        method="average_linkage",
    )
    num_clusters = num_items - int(share_saved * num_items + 1e-9)
    labels = fcluster(linkage(squareform(table), "average"), num_clusters, "maxclust")
    members = [tuple(f"item{place:02}" for place in np.flatnonzero(labels == label)) for label in set(labels)]
    assert set(grouping.groups) == {group for group in members if len(group) > 1}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_keeps_the_rules(method: str) -> None:
    distances = points_apart(3, 12)
    rules = GroupRules(
        together=frozenset({frozenset({"item00", "item11"}), frozenset({"item11", "item05"})}),
        apart=frozenset({frozenset({"item01", "item02", "item03"})}),
        blocks={f"item{place:02}": "de" for place in (4, 6, 7)},
    )
    grouping = choose_groups(distances, share_saved=0.5, threshold=None, rules=rules, method=method)
    assert ("item00", "item05", "item11") in grouping.groups
    for group in grouping.groups:
        assert len(group) <= 3
        assert len({"item01", "item02", "item03"} & set(group)) <= 1
        assert len({rules.blocks.get(item) for item in group}) == 1


@pytest.mark.parametrize("method", METHODS)
def test_a_threshold_bounds_each_pair_within_a_group(method: str) -> None:
    distances = points_apart(4, 15)
    grouping = choose_groups(distances, share_saved=None, threshold=0.6, rules=GroupRules(), method=method)
    assert grouping.groups
    assert all(
        distances[pair] <= 0.6 for group in grouping.groups for pair in itertools.combinations(group, 2)
    )


def test_a_persons_pin_stands_over_the_threshold() -> None:
    far = {("ramp", "canal"): 5.0, ("ramp", "eis"): 0.1, ("canal", "eis"): 5.0}
    pinned = GroupRules(together=frozenset({frozenset({"ramp", "canal"})}))
    grouping = choose_groups(far, share_saved=None, threshold=1.0, rules=pinned)
    assert grouping.groups == (("canal", "ramp"),)


def test_a_pair_without_a_distance_never_shares_a_group() -> None:
    known = {("a", "b"): 1.0, ("c", "b"): 1.0}
    grouping = choose_groups(known, share_saved=0.67, threshold=None, rules=GroupRules())
    assert grouping.num_extractors_saved == 1


def test_order_and_direction_of_the_pairs_do_not_matter() -> None:
    distances = points_apart(5, 14)
    turned = {(b, a): value for (a, b), value in reversed(distances.items())}
    chosen = [
        choose_groups(each, share_saved=0.4, threshold=None, rules=GroupRules())
        for each in (distances, turned)
    ]
    assert chosen[0] == chosen[1]


def test_a_third_of_27_extractors_is_nine() -> None:
    grouping = choose_groups(points_apart(6, 27), share_saved=1 / 3, threshold=None, rules=GroupRules())
    assert grouping.num_extractors_saved == 9


def test_nothing_to_group_is_no_error() -> None:
    assert choose_groups({}, share_saved=0.5, threshold=None, rules=GroupRules()).groups == ()
    alone = choose_groups({("a", "b"): 3.0}, share_saved=None, threshold=1.0, rules=GroupRules())
    assert alone.groups == ()


@pytest.mark.parametrize(
    ("together", "others", "complaint"),
    [
        ("abc", {"max_group_size": 2}, "max_group_size is 2"),
        (
            "ab",
            {"apart": frozenset({frozenset("ab")})},
            "items a and b are pinned together, but are pinned apart",
        ),
        ("ab", {"blocks": {"a": "de", "b": "en"}}, "different blocks"),
        ("az", {}, "items a and z .* have no distance"),
    ],
)
def test_pins_that_cannot_be_kept_are_named(together: str, others: dict[str, object], complaint: str) -> None:
    distances = {("a", "b"): 1.0, ("a", "c"): 1.0, ("b", "c"): 1.0}
    with pytest.raises(InvalidInputError, match=complaint):
        choose_groups(
            distances,
            share_saved=0.5,
            threshold=None,
            rules=GroupRules(together=frozenset({frozenset(together)}), **others),
        )


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"share_saved": None, "threshold": None}, "a share of extractors to save"),
        ({"share_saved": 1.0, "threshold": None}, "from 0 to below 1"),
        ({"share_saved": 0.5, "threshold": None, "method": "best"}, "choose one of optimal, greedy"),
    ],
)
def test_requests_that_make_no_sense_are_refused(arguments: dict[str, object], complaint: str) -> None:
    with pytest.raises(InvalidInputError, match=complaint):
        choose_groups({("a", "b"): 1.0}, rules=GroupRules(), **arguments)


@pytest.mark.parametrize(
    "distances",
    [{("a", "a"): 1.0}, {("a", "b"): np.nan}, {("a", "b"): 1.0, ("b", "a"): 2.0}],
)
def test_distances_that_are_none_are_refused(distances: Pairs) -> None:
    with pytest.raises(InvalidInputError, match="pair"):
        choose_groups(distances, share_saved=0.5, threshold=None, rules=GroupRules())


def test_too_many_groups_to_choose_among_are_refused_at_once() -> None:
    distances = points_apart(0, 330)
    with pytest.raises(InvalidInputError, match="over 5,000,000 possible groups of 330 items"):
        choose_groups(distances, share_saved=0.5, threshold=None, rules=GroupRules())
    quick = choose_groups(distances, share_saved=0.3, threshold=None, rules=GroupRules(), method="greedy")
    assert quick.num_extractors_saved == 99
