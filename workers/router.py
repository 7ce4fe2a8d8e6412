"""Item -> extractor -> shard, by consistent hashing with bounded loads (Mirrokni et al., 2018).

Items of one merged extractor travel together, so that a worker's bank stays warm. Routing is a hint for
speed only: any worker can score any item.
"""

from __future__ import annotations

import bisect
import hashlib
import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

#: No shard gets more than this times its fair share of extractors.
BALANCE = 1.25
_POINTS_PER_SHARD = 64


@dataclass(frozen=True, slots=True)
class RoutingTable:
    """Where each item's work goes, as of one epoch of the registry."""

    epoch: int
    num_shards: int
    extractor_of_item: Mapping[str, str]
    shard_of_extractor: Mapping[str, int]

    def shard(self, item_id: str) -> int:
        """The item's shard; an item that has no extractor yet hashes by its own name."""
        extractor = self.extractor_of_item.get(item_id)
        if extractor is None:
            return _hash(item_id) % self.num_shards
        return self.shard_of_extractor[extractor]


def build_table(epoch: int, extractor_of_item: Mapping[str, str], *, num_shards: int) -> RoutingTable:
    """Spread extractors over shards; the same registry gives the same table in every process."""
    return RoutingTable(
        epoch=epoch,
        num_shards=num_shards,
        extractor_of_item=dict(extractor_of_item),
        shard_of_extractor=_spread(sorted(set(extractor_of_item.values())), num_shards),
    )


def cut_messages(
    due: Iterable[tuple[int, str]], table: RoutingTable, *, max_ids: int
) -> list[tuple[int, list[int]]]:
    """Put waiting submissions into messages: one shard each, neighbours by extractor, at most `max_ids`.

    Args:
        due: pairs of submission id and item id.
        table: where items go.
        max_ids: submissions in one message at most.

    Returns:
        Pairs of shard and submission ids; the shards take turns, so that all workers start at once.
    """
    by_shard: defaultdict[int, list[tuple[str, int]]] = defaultdict(list)
    for submission_id, item_id in due:
        extractor = table.extractor_of_item.get(item_id, item_id)
        by_shard[table.shard(item_id)].append((extractor, submission_id))
    queues = {shard: _cut(sorted(waiting), max_ids) for shard, waiting in sorted(by_shard.items())}
    turns = max((len(cuts) for cuts in queues.values()), default=0)
    return [
        (shard, cuts[turn]) for turn in range(turns) for shard, cuts in queues.items() if turn < len(cuts)
    ]


def _cut(waiting: Sequence[tuple[str, int]], max_ids: int) -> list[list[int]]:
    # Equal pieces rather than full ones and a rest: the last message should not be the longest wait.
    num_pieces = math.ceil(len(waiting) / max_ids)
    size = math.ceil(len(waiting) / num_pieces)
    return [[number for _, number in waiting[start : start + size]] for start in range(0, len(waiting), size)]


def _spread(extractors: Sequence[str], num_shards: int) -> dict[str, int]:
    points = sorted(
        (_hash(f"{shard}/{point}"), shard)
        for shard in range(num_shards)
        for point in range(_POINTS_PER_SHARD)
    )
    places = [place for place, _ in points]
    room = [math.ceil(BALANCE * len(extractors) / num_shards)] * num_shards
    shard_of: dict[str, int] = {}
    for extractor in extractors:
        start = bisect.bisect(places, _hash(extractor))
        shard = next(
            shard for step in range(len(points)) if room[shard := points[(start + step) % len(points)][1]] > 0
        )
        room[shard] -= 1
        shard_of[extractor] = shard
    return shard_of


def _hash(name: str) -> int:
    # Not hash(): that differs from process to process.
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")
