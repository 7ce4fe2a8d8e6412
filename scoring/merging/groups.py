"""Merge groups: which items share an extractor, chosen together rather than one after the other.

Distances between items and a person's rules come in, disjoint groups go out. Any dissimilarity will do: it is
not known here what the numbers measure.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

from scoring.errors import InvalidInputError
from scoring.merging.agglomeration import agglomerate
from scoring.merging.packing import pack_groups
from scoring.merging.pairs import PairTable

if TYPE_CHECKING:
    from collections.abc import Mapping

GroupMethod = Literal["optimal", "greedy", "average_linkage"]


@dataclass(frozen=True, slots=True)
class Grouping:
    """Groups of items that are to share one extractor each.

    Attributes:
        groups: each sorted, by their first item; items that keep their own extractor stand in none
        cost: sum over groups of (size - 1) times the mean distance within: what each saved extractor costs
        num_extractors_saved: sum over groups of size - 1
        proven: whether no cheaper groups exist that save as many
    """

    groups: tuple[tuple[str, ...], ...]
    cost: float
    num_extractors_saved: int
    proven: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRules:
    """What a grouping has to respect.

    Attributes:
        max_group_size: most items that share one extractor
        together: each set of items must end in one group, whatever its distances
        apart: no two items of a set may end in one group
        blocks: item -> what has to be equal to merge (backbone, adapter shape, language); items that are not
            named form a block of their own
    """

    max_group_size: int = 3
    together: frozenset[frozenset[str]] = frozenset()
    apart: frozenset[frozenset[str]] = frozenset()
    blocks: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.max_group_size < 2:
            raise InvalidInputError(f"max_group_size is {self.max_group_size}; a group has at least 2 items")


def choose_groups(
    distances: Mapping[tuple[str, str], float],
    *,
    share_saved: float | None,
    threshold: float | None,
    rules: GroupRules,
    method: GroupMethod = "optimal",
) -> Grouping:
    """Choose disjoint groups of items.

    With `share_saved`, the cheapest groups that save this share of all items' extractors, or as many as can
    be saved; with `threshold` alone, the groups that save the most, the cheapest of them. A pair without a
    distance never shares a group.

    Args:
        distances: pair of items -> dissimilarity, each pair once, in either order
        share_saved: extractors to save, as a share of the items, 0 to 1
        threshold: largest distance between any two items of a group, pinned ones excepted
        rules: sizes, pins and blocks
        method: "optimal" (an integer programme), or step by step: "greedy" takes the merge that adds the
            least cost, "average_linkage" the one with the smallest mean distance (UPGMA, as GW-SMM does)

    Raises:
        InvalidInputError: the rules contradict each other or name a pair without a distance.
    """
    if method not in get_args(GroupMethod):
        raise InvalidInputError(
            f"grouping method {method!r}; choose one of {', '.join(get_args(GroupMethod))}"
        )
    if share_saved is None and threshold is None:
        raise InvalidInputError("give a share of extractors to save, a threshold on the distance, or both")
    if share_saved is not None and not 0 <= share_saved < 1:
        raise InvalidInputError(f"share of extractors to save is {share_saved}; it lies from 0 to below 1")
    table = PairTable.of(distances, threshold=threshold, rules=rules)
    # A whole share is met exactly: 1/3 of 27 is 9, though 27 * (1/3) may be a hair less.
    target = None if share_saved is None else int(share_saved * len(table.items) + 1e-9)
    if method == "optimal":
        chosen, proven = pack_groups(table, target=target)
    else:
        chosen, proven = agglomerate(table, target=target, by=method), False
    return _grouping(chosen, table, proven=proven)


def _grouping(chosen: list[tuple[int, ...]], table: PairTable, *, proven: bool) -> Grouping:
    groups = sorted(tuple(sorted(table.items[place] for place in group)) for group in chosen)
    return Grouping(
        groups=tuple(groups),
        cost=float(sum(table.cost(group) for group in chosen)),
        num_extractors_saved=sum(len(group) - 1 for group in groups),
        proven=proven,
    )
