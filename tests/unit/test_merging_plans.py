"""Which groups are tried: what is near, pinned, tried before, live already, or has drifted apart."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from db.merges import ServedItem
from db.pins import Pin
from scoring.evaluation.policy import MergingPolicy, read_policy
from workers.merging.neighbours import Neighbourhood
from workers.merging.planning import live_groups, margin, pairs_needed, plan

NOW = datetime(2026, 1, 1, tzinfo=UTC)
#: Four items on a line: a and b are near, c a little off, d far away.
PLACES = {"a": 0.0, "b": 1.0, "c": 3.0, "d": 9.0}


@dataclass(frozen=True)
class Town:
    """Distances, champions and all that a plan looks at."""

    places: dict[str, float]
    shared: tuple[str, ...] = ()

    def near(self) -> Neighbourhood:
        pairs = itertools.combinations(sorted(self.places), 2)
        distances = {(one, two): abs(self.places[one] - self.places[two]) / 100 for one, two in pairs}
        return Neighbourhood("gw", distances, distances, dict.fromkeys(self.places, 0.001))

    def items(self):
        return {name: self._standing(name) for name in self.places}

    def plan(self, **options: object):
        rules = {"pins": [], "tried": [], "pending": [], "policy": policy()} | options
        return plan(self.near(), self.items(), **rules)

    def _standing(self, name: str):
        is_merged = name in self.shared
        served = ServedItem(
            item_id=name,
            champion=1,
            champion_key="k",
            extractor_key="shared" if is_merged else f"own {name}",
            extractor_kind="merged" if is_merged else "item",
            num_bytes=10,
            own=2,
            own_key="k",
            own_extractor_key=f"own {name}",
            own_num_bytes=10,
        )
        return SimpleNamespace(served=served, block="en")


def policy(**changes: object) -> MergingPolicy:
    values = read_policy().merging.model_dump() | {"max_group_size": 2, "share_saved": 0.5}
    return MergingPolicy.model_validate(values | changes)


def pinned(first: str, second: str, kind: str) -> Pin:
    return Pin(first, second, kind, "ada", "so", NOW)


def groups(planned) -> list[tuple[str, tuple[str, ...]]]:
    return [(one.kind, one.items) for one in planned.plans]


def test_the_cheapest_groups_for_the_share_are_chosen_together() -> None:
    assert groups(Town(PLACES).plan(policy=policy(share_saved=0.25))) == [("merge", ("a", "b"))]
    # c and d lie further apart than the middle pair: they are named, not tried.
    planned = Town(PLACES).plan()
    assert groups(planned) == [("merge", ("a", "b"))]
    assert "noise floors" in planned.left_out["c + d"]


def test_a_plan_says_where_it_stands_and_what_was_near() -> None:
    (one,) = Town(PLACES).plan(policy=policy(share_saved=0.25)).plans
    assert (one.distance, one.distance_rank) == (pytest.approx(0.01), 1)
    assert one.alternatives[0] == (("b", "c"), pytest.approx(0.02))


def test_a_distance_beyond_the_threshold_is_never_merged() -> None:
    assert groups(Town(PLACES).plan(policy=policy(max_distance=0.005))) == []


def test_pins_are_kept() -> None:
    apart = Town(PLACES).plan(pins=[pinned("a", "b", "apart")], policy=policy(share_saved=0.25))
    assert groups(apart) == [("merge", ("b", "c"))]
    alone = Town(PLACES).plan(pins=[pinned("a", "a", "alone")], policy=policy(share_saved=0.34))
    assert groups(alone) == [("merge", ("b", "c"))]
    together = Town(PLACES).plan(pins=[pinned("a", "c", "together")], policy=policy(share_saved=0.25))
    assert ("merge", ("a", "c")) in groups(together)


def test_what_was_tried_in_vain_makes_room_for_the_next() -> None:
    town = Town(PLACES)
    planned = town.plan(tried=[("a", "b")], policy=policy(share_saved=0.25))
    assert groups(planned) == [("merge", ("b", "c"))]
    assert planned.left_out == {"a + b": "was rejected or rolled back with these scorers"}
    trio = policy(max_group_size=3, share_saved=0.5)
    assert groups(town.plan(policy=trio)) == [("merge", ("a", "b", "c"))]
    assert groups(town.plan(tried=[("a", "b", "c")], policy=trio)) != [("merge", ("a", "b", "c"))]


def test_items_with_a_pending_proposal_are_left_alone() -> None:
    assert groups(Town(PLACES).plan(pending=[("a",)], policy=policy(share_saved=0.34))) == [
        ("merge", ("b", "c"))
    ]


def test_what_is_pending_counts_towards_the_share() -> None:
    places = {name: float(place) for place, name in enumerate("abcdefgh")}
    half = policy(share_saved=0.5)
    assert len(Town(places).plan(policy=half).plans) == 4
    assert len(Town(places).plan(pending=[("a", "b"), ("c", "d")], policy=half).plans) == 2
    few = policy(share_saved=0.25)
    assert Town(places).plan(pending=[("a", "b"), ("c", "d")], policy=few).plans == ()


@pytest.mark.parametrize(
    ("pin", "changes", "reason"),
    [
        (pinned("a", "b", "apart"), {}, "a and b are pinned apart"),
        (pinned("b", "b", "alone"), {"max_group_size": 3}, "b is pinned alone"),
        (None, {"max_group_size": 2}, "max_group_size is 2"),
    ],
)
def test_a_live_group_that_should_not_be_is_to_part_and_the_night_goes_on(
    pin: Pin | None, changes: dict[str, object], reason: str
) -> None:
    shared = ("a", "b") if pin else ("a", "b", "c")
    places = PLACES | {"e": 9.5}
    planned = Town(places, shared=shared).plan(pins=[pin] if pin else [], policy=policy(**changes))
    assert reason in planned.left_out[" + ".join(shared)]
    assert [one for one in groups(planned) if set(one[1]) & set(shared)] == [("split", shared)]
    assert ("merge", ("d", "e")) in groups(planned)


def test_a_live_group_stands_and_another_item_may_join_it() -> None:
    town = Town(PLACES, shared=("a", "b"))
    assert live_groups(town.items()) == [("a", "b")]
    assert groups(town.plan(policy=policy(share_saved=0.25))) == []
    joined = town.plan(policy=policy(share_saved=0.5, max_group_size=3))
    assert groups(joined) == [("join", ("a", "b", "c"))]


def test_a_live_group_that_drifted_is_to_part() -> None:
    town = Town({"a": 0.0, "b": 8.0, "c": 4.0, "d": 4.5}, shared=("a", "b"))
    planned = town.plan()
    assert ("split", ("a", "b")) in groups(planned)
    assert ("merge", ("c", "d")) in groups(planned)


def test_a_live_group_that_could_not_be_compared_is_left_as_it_is() -> None:
    town = Town({name: PLACES[name] for name in "abc"}, shared=("a", "b"))
    near = town.near()
    del near.distances["a", "b"]
    planned = plan(near, town.items(), pins=[], tried=[], pending=[], policy=policy())
    assert planned.plans == ()


def test_the_margin_is_told_in_noise_floors() -> None:
    near = Town(PLACES).near()
    # Distances .01 .02 .03 .06 .08 .09: the middle lies at .045, the floor at .001.
    assert margin(0.01, near, ("a", "b")) == pytest.approx(35.0)
    assert margin(0.01, Neighbourhood("gw", {}, {}, {}), ("a", "b")) is None


def test_the_middle_of_all_pairs_counts_where_only_the_nearest_are_at_hand() -> None:
    distances = {("a", "b"): 0.01, ("a", "c"): 0.02}
    floors = dict.fromkeys("abc", 0.001)
    assert margin(0.01, Neighbourhood("gw", distances, distances, floors), ("a", "b")) == pytest.approx(5.0)
    partly = Neighbourhood("gw", distances, distances, floors, num_pairs=5000, middle_gw=0.08)
    assert margin(0.01, partly, ("a", "b")) == pytest.approx(70.0)
    assert partly.num_compared == 5000


def test_a_pin_without_a_distance_is_told_and_the_night_goes_on() -> None:
    town = Town(PLACES)
    near = town.near()
    del near.distances["a", "d"]  # another language, say
    pins = [pinned("d", "a", "together"), pinned("b", "c", "together")]
    planned = plan(near, town.items(), pins=pins, tried=[], pending=[], policy=policy(share_saved=0.25))
    assert groups(planned) == [("merge", ("b", "c"))]
    assert "pinned together" in planned.left_out["a + d"]


def test_pins_that_contradict_each_other_are_told_and_the_night_goes_on() -> None:
    pins = [pinned("a", "b", "together"), pinned("b", "c", "together")]
    planned = Town(PLACES).plan(pins=pins, policy=policy(share_saved=0.25))
    assert groups(planned) == [("merge", ("a", "b"))]
    assert "max_group_size" in planned.left_out["pins"]


def test_live_groups_and_pins_need_their_distances() -> None:
    town = Town(PLACES, shared=("a", "d"))
    pins = [pinned("c", "b", "together"), pinned("a", "c", "apart"), pinned("d", "d", "alone")]
    assert pairs_needed(town.items(), pins) == {("a", "d"), ("b", "c")}
