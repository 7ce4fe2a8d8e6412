"""The pairs of one search, column by column: what is known of each, filled in as the search goes on."""

from __future__ import annotations

from functools import lru_cache, partial
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from scoring.errors import InvalidInputError
from scoring.merging.crew import Problem
from scoring.merging.relations import relate
from scoring.merging.summaries import CloudSummary, pair_bounds, pair_predictors
from scoring.merging.verdicts import PairDistance

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from scoring.merging.clouds import FeatureCloud
    from scoring.merging.crew import Crew
    from scoring.merging.distances import GwSettings
    from scoring.merging.relations import Relations

#: Relational matrices kept at hand: 1.3 MB each at 400 answers.
_MAX_RELATIONS = 200
#: What samples' matrices may take on each rung.
_SAMPLE_BYTES = 2**28


class PairField:
    """All pairs of clouds that may be compared; a place is a pair's index in every column.

    Attributes:
        first: index of the pair's first cloud [num_pairs]
        second: index of its second cloud [num_pairs]
        lower: certified lower bound [num_pairs]
        summaries: of each cloud [num_clouds]
        distances: the solver's, nan where it has not run [num_pairs]
        estimates: by answers of each cloud in an estimated distance; nan where there is none [num_pairs]
        is_new: whether no earlier search has judged the pair [num_pairs]
        is_fresh: whether this search has solved or estimated it [num_pairs]
        num_solved: pairs that this search solved
        num_sifted: estimated distances that this search computed
        num_reused: pairs whose distance was known before
    """

    def __init__(
        self,
        clouds: Sequence[FeatureCloud],
        *,
        settings: GwSettings,
        rungs: Sequence[int] = (),
        device: str | None = None,
        on_found: Callable[[tuple[PairDistance, ...]], None] = lambda _found: None,
    ) -> None:
        self.clouds = sorted(clouds, key=lambda cloud: cloud.item_id)
        _check_ids(self.clouds)
        self.settings = settings
        self._device = device
        self._on_found = on_found
        self.first, self.second = _pairs_within_blocks(self.clouds)
        self._relations: Callable[[int], Relations] = lru_cache(_MAX_RELATIONS)(self._relate)
        self._samples: dict[int, Callable[[int], NDArray[np.float32]]] = {
            rung: lru_cache(max(2, _SAMPLE_BYTES // (4 * rung**2)))(partial(self._relate_some, rung))
            for rung in rungs
        }
        self.summaries = [
            cloud.summary or CloudSummary.of(self._relations(place))
            for place, cloud in enumerate(self.clouds)
        ]
        self.lower = pair_bounds(self.summaries, self.first, self.second)
        self.distances = np.full(len(self.first), np.nan)
        self.estimates = {rung: np.full(len(self.first), np.nan) for rung in sorted(rungs)}
        self.is_new = np.ones(len(self.first), dtype=bool)
        self.is_fresh = np.zeros(len(self.first), dtype=bool)
        self.num_solved = self.num_sifted = self.num_reused = 0

    def __len__(self) -> int:
        return len(self.first)

    @property
    def is_solved(self) -> NDArray[np.bool_]:
        """Whether the solver's distance is known [num_pairs]."""
        known: NDArray[np.bool_] = ~np.isnan(self.distances)
        return known

    @property
    def share_new(self) -> float:
        """Share of the pairs that no earlier search has judged."""
        return float(self.is_new.mean())

    def solved_distances(self) -> NDArray[np.float64]:
        """The distances that are known [num_solved]."""
        return self.distances[self.is_solved]

    def predictors(self) -> NDArray[np.float64]:
        """What a forecast learns from [num_pairs, num_predictors]."""
        return pair_predictors(self.summaries, self.first, self.second)

    def take_over(
        self, known: Mapping[tuple[str, str], PairDistance], judged: Collection[str] = frozenset()
    ) -> None:
        """Use what earlier searches found for pairs of unchanged clouds, by their digests.

        A pair of two clouds that one earlier search judged is not new, even where it was left unsolved.
        """
        cloud_of = {cloud.digest: place for place, cloud in enumerate(self.clouds)}
        was_there = np.array([cloud.digest in judged for cloud in self.clouds], dtype=bool)
        for (digest, other_digest), pair in known.items():
            one, other = cloud_of.get(digest), cloud_of.get(other_digest)
            if one is None or other is None or (place := self._place(one, other)) is None:
                continue
            self.lower[place] = max(self.lower[place], pair.lower_bound)
            if pair.solved:
                self.distances[place] = pair.distance
                self.num_reused += 1
            elif rungs := [
                rung for rung in self.estimates if self._num_answers(place, rung) == pair.num_answers
            ]:
                self.estimates[rungs[-1]][place] = pair.distance
            else:
                was_there[[one, other]] = False  # judged by estimates that are none any more
        self.is_new = ~(was_there[self.first] & was_there[self.second])

    def solve(self, places: NDArray[np.intp], crew: Crew, *, cutoff: float = np.inf) -> None:
        """Solve these pairs, except those whose third bound lies beyond the cutoff."""
        # Neighbours in this order share a cloud, whose matrix is then still at hand.
        places = places[np.lexsort((self.second[places], self.first[places]))]
        problems = (
            Problem(
                self._relations(int(self.first[place])),
                self._relations(int(self.second[place])),
                self.settings,
                cutoff,
                self._device,
            )
            for place in places
        )
        for place, solution in zip(places, crew.solve(problems), strict=True):
            self.lower[place] = max(self.lower[place], solution.lower_bound)
            if solution.distance is not None:
                self.distances[place] = solution.distance
                self.num_solved += 1
                self.is_fresh[place] = True
        self._on_found(self.verdicts(places[self.is_solved[places]], cutoff=np.inf))

    def sift(self, places: NDArray[np.intp], crew: Crew, *, num_answers: int) -> None:
        """Fill in the estimated distances of these pairs at this sample size, where there are none."""
        estimates = self.estimates[num_answers]
        places = places[np.isnan(estimates[places])]
        sample = self._samples[num_answers]
        pairs = ((sample(int(self.first[place])), sample(int(self.second[place]))) for place in places)
        estimates[places] = np.fromiter(crew.sift(pairs), dtype=np.float64, count=len(places))
        self.num_sifted += len(places)
        self.is_fresh[places] = True
        self._on_found(self.verdicts(places, cutoff=np.inf))

    def examined(self) -> NDArray[np.intp]:
        """Places of the pairs that have been solved or estimated."""
        known = self.is_solved
        for estimates in self.estimates.values():
            known = known | ~np.isnan(estimates)
        return np.flatnonzero(known)

    def verdicts(self, places: Iterable[int], *, cutoff: float) -> tuple[PairDistance, ...]:
        """What is known of these pairs, in this order."""
        return tuple(self._verdict(place, cutoff) for place in places)

    def _verdict(self, place: int, cutoff: float) -> PairDistance:
        num_answers, distance = self._best(place)
        solved = not np.isnan(self.distances[place])
        return PairDistance(
            first=self.clouds[self.first[place]].item_id,
            second=self.clouds[self.second[place]].item_id,
            distance=distance,
            lower_bound=float(self.lower[place]),
            num_answers=self._num_answers(place, num_answers),
            solved=solved,
            certified=solved or bool(self.lower[place] > cutoff),
        )

    def _best(self, place: int) -> tuple[int, float]:
        """Answers in the best distance that is known, and that distance."""
        if not np.isnan(self.distances[place]):
            return self.settings.num_answers, float(self.distances[place])
        found = [(rung, float(column[place])) for rung, column in self.estimates.items()]
        return next(one for one in reversed(found) if not np.isnan(one[1]))

    def places_of(self, pairs: Iterable[tuple[str, str]]) -> NDArray[np.intp]:
        """Places of pairs of items, without those that may not be compared."""
        cloud_of = {cloud.item_id: place for place, cloud in enumerate(self.clouds)}
        found = [
            self._place(cloud_of[one], cloud_of[other])
            for one, other in pairs
            if one in cloud_of and other in cloud_of and one != other
        ]
        return np.unique(np.array([place for place in found if place is not None], dtype=np.intp))

    def _place(self, one: int, other: int) -> int | None:
        """Where the pair of these clouds stands; the columns are sorted by first, then second cloud."""
        begin, end = np.searchsorted(self.first, [min(one, other), min(one, other) + 1])
        place = int(begin + np.searchsorted(self.second[begin:end], max(one, other)))
        return place if place < end and self.second[place] == max(one, other) else None

    def _num_answers(self, place: int, most: int) -> int:
        return min(len(self.clouds[self.first[place]]), len(self.clouds[self.second[place]]), most)

    def _relate(self, place: int) -> Relations:
        return self.settings.relations(self.clouds[place])

    def _relate_some(self, num_answers: int, place: int) -> NDArray[np.float32]:
        some = self.clouds[place].features[: min(num_answers, self.settings.num_answers)]
        return relate(some, scale=self.summaries[place].scale).matrix.astype(np.float32)


def _check_ids(clouds: Sequence[FeatureCloud]) -> None:
    for cloud, following in pairwise(clouds):
        if cloud.item_id == following.item_id:
            raise InvalidInputError(f"item {cloud.item_id}: two clouds; give each item once")


def _pairs_within_blocks(clouds: Sequence[FeatureCloud]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    first, second = np.triu_indices(len(clouds), k=1)
    blocks = np.unique([cloud.block for cloud in clouds], return_inverse=True)[1]
    same = blocks[first] == blocks[second]
    return first[same], second[same]
