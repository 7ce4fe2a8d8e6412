"""Which items are nearest to each other, with as few distances solved as can be.

Clouds come in, pairs with their distances go out, and how far each verdict can be trusted. Two ways, by the
number of pairs: branch and bound, which finds exactly what solving every pair would find; or, for very many,
a ladder of estimates whose misses are measured. Where distances are kept from one night to the next is not
known here.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from scoring.merging.crew import ROUNDING, crew
from scoring.merging.field import PairField
from scoring.merging.ladder import Audit, Rung, SearchEffort, climb, middle_distance
from scoring.merging.verdicts import PairDistance, Wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from numpy.typing import NDArray

    from scoring.merging.clouds import FeatureCloud
    from scoring.merging.crew import Crew
    from scoring.merging.distances import GwSettings
    from scoring.merging.summaries import CloudSummary

__all__ = ["PairDistance", "Rung", "SearchEffort", "SearchReport", "nearest_pairs"]

#: Pairs that branch and bound solves between two looks at how near a pair has to be.
_BATCH_SIZE = 32
_NOTHING_KNOWN: Mapping[tuple[str, str], PairDistance] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchReport:
    """The pairs asked for, and how they were found.

    Attributes:
        pairs: the pairs asked for, nearest first, all of them solved; with them those given in any case
        num_pairs: pairs that may be compared at all
        num_bounded_away: unsolved pairs that a certified lower bound puts outside of what was asked for
        num_solved: pairs solved in this search
        num_reused: pairs whose solved distance was known
        seconds: wall time
        num_sifted: estimated distances computed in this search
        cutoff: how near a pair had to be to be among `pairs`
        fresh: pairs that this search solved or estimated
        judged: digests of all clouds, for the next search
        middle: the median distance of all pairs, partly by a forecast where not all are solved
        examined: everything worth keeping for the next search: pairs solved or estimated, now or before
        summaries: of each cloud, by its digest, for the next search's clouds
        recall: estimated share found of the pairs asked for, as far as this search judged them; 1 where
            every verdict is certified
        num_audited: pairs solved only to estimate `recall`
    """

    pairs: tuple[PairDistance, ...]
    num_pairs: int
    num_bounded_away: int
    num_solved: int
    num_reused: int
    seconds: float
    num_sifted: int
    cutoff: float
    fresh: tuple[PairDistance, ...]
    judged: frozenset[str]
    middle: float
    examined: tuple[PairDistance, ...]
    summaries: Mapping[str, CloudSummary]
    recall: float
    num_audited: int

    @property
    def certified_share(self) -> float:
        """Share of all pairs of which it is certain whether they belong to what was asked for."""
        num_unsolved = self.num_pairs - self.num_solved - self.num_reused
        return 1 - (num_unsolved - self.num_bounded_away) / self.num_pairs if self.num_pairs else 1.0


def nearest_pairs(  # noqa: PLR0913 (what is asked for, what is known, and at what cost)
    clouds: Sequence[FeatureCloud],
    *,
    num_pairs: int | None,
    threshold: float | None,
    settings: GwSettings,
    known: Mapping[tuple[str, str], PairDistance] = _NOTHING_KNOWN,
    judged: Collection[str] = frozenset(),
    always: Collection[tuple[str, str]] = (),
    on_progress: Callable[[int, int], None] | None = None,
    on_found: Callable[[tuple[PairDistance, ...]], None] = lambda _found: None,
    effort: SearchEffort | None = None,
) -> SearchReport:
    """The nearest pairs of items, or all within a threshold, or both limits; all pairs without either.

    Args:
        clouds: one an item; only those of one block are compared
        num_pairs: most pairs to give
        threshold: largest distance of a pair
        settings: how distances are computed
        known: what earlier searches with the same settings found, by the two clouds' digests in any order
        judged: digests of the clouds of one earlier search that went to its end: pairs among these that it
            left unsolved stay so
        always: pairs of items that are solved and given in any case
        on_progress: called with pairs settled and pairs in all, or at most, as the search goes on
        on_found: called with what has been found since the last call, to be kept if the search is cut off;
            certified here means solved
        effort: how much it may cost

    Raises:
        InvalidInputError: an item comes twice, or the limits or the effort make no sense.
    """
    started = time.monotonic()
    effort, wanted = effort or SearchEffort(), Wanted(num_pairs, threshold)
    rungs = [rung.num_answers for rung in effort.rungs]
    field = PairField(clouds, settings=settings, rungs=rungs, device=effort.device, on_found=on_found)
    field.take_over(known, judged)
    is_exact = wanted.is_all or effort.max_exact_pairs is None or len(field) <= effort.max_exact_pairs
    progress = on_progress or (lambda _done, _all: None)
    with crew(effort.num_processes) as workers:
        if is_exact:
            _branch_and_bound(field, wanted, crew=workers, on_progress=progress)
            audit = Audit(0, 0.0)
        else:
            audit = climb(field, wanted, effort, crew=workers, on_progress=progress)
        asked = field.places_of(always)
        field.solve(asked[~field.is_solved[asked]], workers)
    return _report(field, wanted, audit, asked, seconds=time.monotonic() - started)


def _branch_and_bound(
    field: PairField, wanted: Wanted, *, crew: Crew, on_progress: Callable[[int, int], None]
) -> None:
    """Solve in the order of the bounds until no unsolved pair can be near enough."""
    order = np.flatnonzero(~field.is_solved)
    order = order[np.argsort(field.lower[order], kind="stable")]
    for start in range(0, len(order), _BATCH_SIZE):
        cutoff = wanted.cutoff(field.solved_distances())
        batch = order[start : start + _BATCH_SIZE]
        field.solve(batch[field.lower[batch] <= cutoff + ROUNDING], crew, cutoff=cutoff)
        on_progress(min(start + _BATCH_SIZE, len(order)), len(order))


def _report(
    field: PairField, wanted: Wanted, audit: Audit, asked: NDArray[np.intp], *, seconds: float
) -> SearchReport:
    cutoff = wanted.cutoff(field.solved_distances())
    solved = np.flatnonzero(field.is_solved)
    near = solved[np.argsort(field.distances[solved], kind="stable")]
    near = near[field.distances[near] <= cutoff][: wanted.num_pairs]
    num_missed = min(audit.num_missed, float(len(near)))
    given = np.union1d(near, asked)
    given = given[np.argsort(field.distances[given], kind="stable")]
    return SearchReport(
        pairs=field.verdicts(given, cutoff=cutoff),
        num_pairs=len(field),
        num_bounded_away=int((~field.is_solved & (field.lower > cutoff)).sum()),
        num_solved=field.num_solved,
        num_reused=field.num_reused,
        seconds=seconds,
        num_sifted=field.num_sifted,
        cutoff=cutoff,
        examined=field.verdicts(field.examined(), cutoff=cutoff),
        summaries={
            cloud.digest: summary for cloud, summary in zip(field.clouds, field.summaries, strict=True)
        },
        fresh=field.verdicts(np.flatnonzero(field.is_fresh), cutoff=cutoff),
        judged=frozenset(cloud.digest for cloud in field.clouds),
        middle=middle_distance(field),
        recall=1 - num_missed / len(near) if len(near) else 1.0,
        num_audited=audit.num_audited,
    )
