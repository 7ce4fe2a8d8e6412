"""Which items are nearest to each other, with as few distances computed as can be."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scoring.merging.distances import gw_distance
from scoring.merging.relations import relate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from scoring.merging.clouds import FeatureCloud
    from scoring.merging.distances import GwSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class PairDistance:
    """One pair's distance and what is known about it."""

    first: str
    second: str
    distance: float
    lower_bound: float
    num_answers: int
    solved: bool
    certified: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchReport:
    """The pairs asked for, nearest first, and how they were found."""

    pairs: tuple[PairDistance, ...]
    num_pairs: int
    num_bounded_away: int
    num_solved: int
    num_reused: int
    seconds: float


def nearest_pairs(
    clouds: Sequence[FeatureCloud],
    *,
    num_pairs: int | None,
    threshold: float | None,
    settings: GwSettings,
    known: Mapping[tuple[str, str], PairDistance] = {},
    on_progress: Callable[[int, int], None] | None = None,
) -> SearchReport:
    """The nearest pairs of items; all pairs when neither a number nor a threshold is given."""
    started = time.monotonic()
    clouds = sorted(clouds, key=lambda cloud: cloud.item_id)
    relations = [relate(cloud.features[: settings.num_answers]) for cloud in clouds]
    found, num_reused = [], 0
    todo = list(itertools.combinations(range(len(clouds)), 2))
    for done, (i, j) in enumerate(todo):
        a, b = clouds[i], clouds[j]
        if pair := known.get((a.digest, b.digest)):
            num_reused += 1
        else:
            n = min(len(relations[i]), len(relations[j]))
            result = gw_distance(relations[i].first(n), relations[j].first(n), settings)
            pair = PairDistance(
                first=a.item_id,
                second=b.item_id,
                distance=result.distance,
                lower_bound=result.lower_bound,
                num_answers=n,
                solved=True,
                certified=True,
            )
        found.append(pair)
        if on_progress:
            on_progress(done + 1, len(todo))
    found.sort(key=lambda pair: (pair.distance, pair.first, pair.second))
    near = [pair for pair in found if threshold is None or pair.distance <= threshold]
    return SearchReport(
        pairs=tuple(near[:num_pairs]),
        num_pairs=len(todo),
        num_bounded_away=0,
        num_solved=len(todo) - num_reused,
        num_reused=num_reused,
        seconds=time.monotonic() - started,
    )
