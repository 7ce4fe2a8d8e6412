"""Which groups are worth a trial tonight: distances, pins and what is live come in, plans go out.

A group that stands stays together here and may only grow; whether it should part is asked apart.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from scoring.errors import InvalidInputError
from scoring.merging.groups import GroupRules, choose_groups

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from db.pins import Pin
    from scoring.evaluation.policy import MergingPolicy
    from workers.merging.neighbours import Neighbourhood, Pair
    from workers.merging.standing import StandingItem

#: Groups shown beside a proposal: what it was chosen over.
_NUM_ALTERNATIVES = 5

#: `choose_groups` takes shares below 1.
_MOST = 1 - 1e-6
_NO_DISTANCE = "are pinned together, but differ in language, backbone or adapter shape"

Group = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """One group for a trial.

    Attributes:
        kind: merge, join or split
        items: sorted
        distance: the largest within the group
        distance_rank: its place among all pairs of the night
        alternatives: groups that were near: the nearest pairs that share an item with it
    """

    kind: str
    items: Group
    distance: float
    distance_rank: int
    alternatives: tuple[tuple[Group, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Planned:
    """Tonight's plans, and groups that were near enough but are not tried, with the reason."""

    plans: tuple[Plan, ...]
    left_out: dict[str, str] = field(default_factory=dict)


def live_groups(items: Mapping[str, StandingItem]) -> list[Group]:
    """Items whose champions share a merged extractor."""
    by_extractor: defaultdict[str, list[str]] = defaultdict(list)
    for name, one in sorted(items.items()):
        if one.served.extractor_kind == "merged":
            by_extractor[one.served.extractor_key].append(name)
    return sorted(tuple(names) for names in by_extractor.values() if len(names) > 1)


def plan(
    near: Neighbourhood,
    items: Mapping[str, StandingItem],
    *,
    pins: Sequence[Pin],
    tried: Sequence[Group],
    pending: Sequence[Group],
    policy: MergingPolicy,
) -> Planned:
    """Choose the groups to try.

    Args:
        near: tonight's distances.
        items: what serves now.
        pins: people's word.
        tried: groups that were rejected or rolled back with the scorers that serve now.
        pending: groups with a proposal that somebody still has to decide on.
        policy: shares, thresholds, sizes.
    """
    live = live_groups(items)
    busy = {name for group in pending for name in group}
    unwanted = _unwanted(live, pins, policy)
    splits = _splits(near, live, policy, busy=busy, unwanted=unwanted)
    parting = {name for group in (*unwanted, *(one.items for one in splits)) for name in group}
    alone = {one.first for one in pins if one.kind == "alone"}
    together = {frozenset(group) for group in live}
    compared = set(items) & near.noise_floors.keys()
    free = compared - busy - alone - parting - _without_distance(near, live)
    to_save = int(policy.share_saved * len(compared) + 1e-9) - _num_saved(live, pending, free | parting)
    pinned, apart_by_nature = _comparable(_together(pins), near, free)
    rules = GroupRules(
        max_group_size=policy.max_group_size,
        together=frozenset(group for group in together | pinned if group <= free),
        apart=frozenset(
            group
            for one in pins
            if one.kind == "apart" and (group := frozenset((one.first, one.second))) <= free
        ),
        blocks={name: one.block for name, one in items.items() if name in free},
    )
    try:
        chosen, left_out = _choose(near, rules, to_save, tried=tried, policy=policy)
    except InvalidInputError as error:
        # Pins that contradict each other: the night goes on without people's word on who goes together.
        rules = replace(rules, together=frozenset(group for group in together if group <= free))
        chosen, left_out = _choose(near, rules, to_save, tried=tried, policy=policy)
        left_out["pins"] = str(error)
    plans = [
        _plan("join" if any(set(other) & set(group) for other in live) else "merge", group, near)
        for group in chosen
        if group not in live
    ]
    told = {" + ".join(group): reason for group, reason in unwanted.items()}
    return Planned((*splits, *plans), told | apart_by_nature | left_out)


def _unwanted(live: Sequence[Group], pins: Sequence[Pin], policy: MergingPolicy) -> dict[Group, str]:
    """Live groups that people's word or the policy would not have made, and why; they are no seeds."""
    found = {}
    for group in live:
        against = [one for one in pins if one.kind != "together" and {one.first, one.second} <= set(group)]
        if against:
            one = against[0]
            who = one.first if one.kind == "alone" else f"{one.first} and {one.second}"
            found[group] = f"is live, while {who} {'is' if one.kind == 'alone' else 'are'} pinned {one.kind}"
        elif len(group) > policy.max_group_size:
            found[group] = f"is live with {len(group)} items, while max_group_size is {policy.max_group_size}"
    return found


def _num_saved(live: Sequence[Group], pending: Sequence[Group], open_: Collection[str]) -> int:
    """Extractors that are saved, or will be, by groups on which tonight does not decide."""
    busy = {name for group in pending for name in group}
    others = [group for group in live if not set(group) <= set(open_) and not set(group) & busy]
    return sum(len(group) - 1 for group in (*pending, *others))


def pairs_needed(items: Mapping[str, StandingItem], pins: Sequence[Pin]) -> set[Pair]:
    """Pairs whose distance a plan needs however far apart they are: of live groups, and pinned together."""
    groups = [*live_groups(items), *(tuple(sorted(group)) for group in _together(pins))]
    return {pair for group in groups for pair in itertools.combinations(group, 2)}


def _together(pins: Sequence[Pin]) -> set[frozenset[str]]:
    return {frozenset((one.first, one.second)) for one in pins if one.kind == "together"}


def _comparable(
    pinned: set[frozenset[str]], near: Neighbourhood, free: Collection[str]
) -> tuple[set[frozenset[str]], dict[str, str]]:
    """Pins whose items have a distance, and the reason for those that have none."""
    found = {group for group in pinned if near.within(sorted(group))}
    lacking = {" + ".join(sorted(group)): _NO_DISTANCE for group in pinned - found if group <= set(free)}
    return found, lacking


def margin(distance: float, near: Neighbourhood, items: Sequence[str]) -> float | None:
    """By how many noise floors a distance is below the middle pair of all; None where no floor is known."""
    floors = [floor for name in items if (floor := near.noise_floors.get(name))]
    if not floors or not near.gw:
        return None
    return (near.middle - distance) / max(floors)


def _without_distance(near: Neighbourhood, live: Sequence[Group]) -> set[str]:
    """Items of live groups that could not be compared tonight: such a group is left as it is."""
    return {
        name
        for group in live
        if len(near.within(group)) < len(group) * (len(group) - 1) // 2
        for name in group
    }


def _choose(
    near: Neighbourhood,
    rules: GroupRules,
    to_save: int,
    *,
    tried: Collection[Group],
    policy: MergingPolicy,
) -> tuple[list[Group], dict[str, str]]:
    """Groups that may be tried; where one may not, its farthest pair is parted and all are chosen anew."""
    distances = {pair: value for pair, value in near.distances.items() if rules.blocks.keys() >= set(pair)}
    left_out: dict[str, str] = {}
    while distances and to_save > 0:
        share = min(to_save / len(set().union(*distances)), _MOST)
        groups = choose_groups(
            distances, share_saved=share, threshold=policy.max_distance, rules=rules
        ).groups
        refused = False
        for group in groups:
            pair = _farthest(group, distances, rules.together)
            reason = _refusal(group, near, policy, tried)
            if pair is None or reason is None:
                continue
            refused, left_out[" + ".join(group)] = True, reason
            del distances[pair]
        if not refused:
            return list(groups), left_out
    return [], left_out


def _farthest(
    group: Group, distances: Mapping[Pair, float], together: Collection[frozenset[str]]
) -> Pair | None:
    """The farthest pair of a group that nobody wants together; None where all of it must be."""
    free = [
        (value, pair)
        for pair, value in distances.items()
        if set(pair) <= set(group) and not any(set(pair) <= wanted for wanted in together)
    ]
    return max(free)[1] if free else None


def _refusal(
    group: Group, near: Neighbourhood, policy: MergingPolicy, tried: Collection[Group]
) -> str | None:
    if group in tried:
        return "was rejected or rolled back with these scorers"
    return _too_far(_plan("merge", group, near), near, policy)


def _splits(
    near: Neighbourhood,
    live: Sequence[Group],
    policy: MergingPolicy,
    *,
    busy: Collection[str],
    unwanted: Collection[Group],
) -> list[Plan]:
    """Live groups whose items have drifted apart, or should not share."""
    plans = [
        _plan("split", group, near) for group in live if not set(group) & set(busy) and near.within(group)
    ]
    return [one for one in plans if one.items in unwanted or _too_far(one, near, policy)]


def _plan(kind: str, group: Group, near: Neighbourhood) -> Plan:
    inner = near.within(group)
    distance = max(inner.values())
    beside = sorted(
        (value, pair)
        for pair, value in near.distances.items()
        if set(pair) & set(group) and not set(pair) <= set(group)
    )
    alternatives = tuple((pair, value) for value, pair in beside[:_NUM_ALTERNATIVES])
    return Plan(kind, group, distance, near.rank(distance), alternatives)


def _too_far(one: Plan, near: Neighbourhood, policy: MergingPolicy) -> str | None:
    if one.distance > policy.max_distance:
        return f"{one.distance:.4f} apart, at most {policy.max_distance:.4f} are merged"
    is_asked = policy.min_margin > 0 and near.criterion == "gw" and len(near.distances) > 2
    found = margin(one.distance, near, one.items) if is_asked else None
    if found is not None and found < policy.min_margin:
        return f"nearer than the middle pair by {found:.1f} noise floors, {policy.min_margin:.1f} are needed"
    return None
