"""The search among very many pairs: every rung costs more a pair than the one below, and sees fewer pairs.

First, summaries of all pairs and a forecast learned from a few solved ones; then, of the pairs that the
forecast puts nearest, estimated distances from more and more answers; then the solver, nearest first, until
nothing nearer turns up. What that misses is estimated by solving a sample of the pairs left out. Nothing here
is certified.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scoring.errors import InvalidInputError
from scoring.merging.forecast import Forecast

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from scoring.merging.crew import Crew
    from scoring.merging.field import PairField
    from scoring.merging.verdicts import Wanted

#: The first stratum of an audit holds so many times the pairs wanted; each is so many times the one before.
_FIRST_STRATUM, _STRATUM_GROWTH = 2, 4


@dataclass(frozen=True, slots=True)
class Rung:
    """One step of the ladder.

    Attributes:
        num_answers: of each cloud that are compared
        share: of all pairs that get this far
        margin: how many times the pairs wanted get this far at least
    """

    num_answers: int
    share: float
    margin: float


#: 3, 15 and 50 ms a pair, where the solver takes 120; shares and margins leave room for their errors, on text
#: .005, .004 and .002.
RUNGS = (Rung(100, 0.15, 24), Rung(200, 0.05, 12), Rung(400, 0.015, 8))
#: Smallest batch of pairs solved between two looks, whatever its share.
_MIN_BATCH = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchEffort:
    """How much a search may cost.

    Attributes:
        max_exact_pairs: up to this many pairs are searched by branch and bound, and nothing is left to a
            forecast; None for always
        rungs: estimated distances, each from more answers than the one before and of fewer pairs
        num_trials: pairs solved at first, for the forecast to learn from
        num_local_trials: pairs solved after each rung, those that look nearest then
        batch_share: share of the pairs solved between two looks at what they brought
        patience: batches in a row that bring nothing nearer before the search ends
        num_audited: pairs solved at the end, of those left out, to measure what was missed
        num_processes: processes that solve, one core each
        device: where the solver multiplies its matrices, in torch's words; None for NumPy
        seed: of the pairs that are tried and audited
    """

    max_exact_pairs: int | None = 5_000
    rungs: tuple[Rung, ...] = RUNGS
    num_trials: int = 200
    num_local_trials: int = 50
    batch_share: float = 0.0005
    patience: int = 2
    num_audited: int = 200
    num_processes: int = 1
    device: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        shares = [rung.share for rung in self.rungs]
        if not all(0 < share <= 1 for share in (*shares, self.batch_share)):
            raise InvalidInputError("batch_share and the rungs' shares lie above 0 and go up to 1")
        sizes = [rung.num_answers for rung in self.rungs]
        if sizes != sorted(set(sizes)) or shares != sorted(shares, reverse=True):
            raise InvalidInputError("each rung takes more answers of fewer pairs than the one before")
        if min(sizes, default=2) < 2 or self.num_trials < 2 or self.patience < 1:
            raise InvalidInputError("a search needs 2 answers, 2 trials and a patience of 1 at least")


@dataclass(frozen=True, slots=True)
class Audit:
    """How many near pairs the sample of those left out says were missed.

    Attributes:
        num_audited: pairs solved for it
        num_missed: estimated number of near pairs among all left out
    """

    num_audited: int
    num_missed: float


def climb(
    field: PairField,
    wanted: Wanted,
    effort: SearchEffort,
    *,
    crew: Crew,
    on_progress: Callable[[int, int], None],
) -> Audit:
    """Solve the pairs that are likely to be wanted, and measure what was missed."""
    rng = np.random.default_rng(effort.seed)
    # What an earlier search left unsolved has been judged, unless it was asked for fewer pairs; its estimates
    # would only be made again.
    if wanted.num_pairs is not None and field.num_reused < wanted.num_pairs:
        field.is_new[:] = True
    if not (field.is_new & ~field.is_solved).any():
        return Audit(0, 0.0)
    trials = _try_some(field, effort, crew=crew, rng=rng)
    open_at_first = np.flatnonzero(field.is_new & ~field.is_solved)
    predictors, likely = field.predictors(), np.arange(len(field))
    guess = _forecast(field, predictors)
    for rung in effort.rungs:
        # Pairs that an earlier search judged keep their places in the line by what was forecast before,
        # solved or not: forecasts lie nearer to the mean than distances do.
        num_likely = max(rung.share * len(field), rung.margin * wanted.expected_number(guess))
        likely = _lowest(guess, likely, int(np.ceil(num_likely)))
        asked = likely[field.is_new[likely]]
        field.sift(np.union1d(asked, trials), crew, num_answers=rung.num_answers)
        estimates = field.estimates[rung.num_answers]
        predictors = np.column_stack([predictors, estimates, estimates**2])
        trials = np.union1d(trials, _try_nearest(field, asked, predictors, effort, crew=crew))
        expected = _forecast(field, predictors)
        guess = np.where(np.isfinite(expected), expected, guess)
    todo = likely[field.is_new[likely] & ~field.is_solved[likely]]
    _solve_nearest(
        field, wanted, effort, likely=todo, predictors=predictors, crew=crew, on_progress=on_progress
    )
    return _audit(field, wanted, effort, open_at_first, expected=guess, crew=crew, rng=rng)


def _lowest(expected: NDArray[np.float64], places: NDArray[np.intp], num_places: int) -> NDArray[np.intp]:
    """Those of some places that are expected nearest."""
    return places[np.argsort(expected[places], kind="stable")][:num_places]


def _try_nearest(
    field: PairField,
    places: NDArray[np.intp],
    predictors: NDArray[np.float64],
    effort: SearchEffort,
    *,
    crew: Crew,
) -> NDArray[np.intp]:
    """Solve the pairs that look nearest now: likely wanted, and where the forecast has to be good."""
    unsolved = places[~field.is_solved[places]]
    num_trials = int(np.ceil(effort.num_local_trials * field.share_new))
    nearest = _lowest(_forecast(field, predictors), unsolved, num_trials)
    field.solve(nearest, crew)
    return nearest


def _try_some(
    field: PairField, effort: SearchEffort, *, crew: Crew, rng: np.random.Generator
) -> NDArray[np.intp]:
    """Solve a few pairs, half of them at random, half by the lowest bounds, unless enough are known."""
    unsolved = np.flatnonzero(~field.is_solved)
    num_lacking = min(effort.num_trials - (len(field) - len(unsolved)), len(unsolved))
    if num_lacking > 0:
        by_chance = rng.permutation(unsolved)[: num_lacking // 2]
        others = np.setdiff1d(unsolved, by_chance)
        lowest = others[np.argsort(field.lower[others], kind="stable")][: num_lacking - len(by_chance)]
        field.solve(np.concatenate([by_chance, lowest]), crew)
    solved = np.flatnonzero(field.is_solved)
    # Most of those that an earlier search solved are near ones, where the forecast has to be good: half as
    # many say as much, and their estimates have to be made again.
    num_trials = effort.num_trials // 2 if num_lacking <= 0 else effort.num_trials
    return rng.permutation(solved)[: max(2, num_trials)]


def _forecast(field: PairField, predictors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Expected distances of all pairs [num_pairs]; infinite where a predictor is missing.

    Far nearer than anything learned from, such as a copy, a square may turn upwards: such a pair is never
    expected beyond its estimates, which lie above distances.
    """
    complete = ~np.isnan(predictors).any(axis=1)
    learned = field.is_solved & complete
    forecast = Forecast.fit(predictors[learned], field.distances[learned])
    expected = np.full(len(field), np.inf)
    expected[complete] = forecast.expect(predictors[complete])
    for estimates in field.estimates.values():
        beyond = complete & (estimates < np.min(estimates[learned], initial=np.inf) / 2)
        expected[beyond] = np.minimum(expected[beyond], estimates[beyond])
    return expected


def middle_distance(field: PairField) -> float:
    """The median over all pairs, of forecasts where they are unsolved; nan without pairs or solved ones."""
    distances = field.distances
    if not field.is_solved.any():
        return float("nan")
    if not field.is_solved.all():
        distances = np.where(field.is_solved, distances, _forecast(field, field.predictors()))
    return float(np.median(distances))


def _solve_nearest(
    field: PairField,
    wanted: Wanted,
    effort: SearchEffort,
    *,
    likely: NDArray[np.intp],
    predictors: NDArray[np.float64],
    crew: Crew,
    on_progress: Callable[[int, int], None],
) -> None:
    """Solve the likely pairs, those expected nearest first, until batches bring nothing nearer."""
    todo, num_idle = likely, 0
    # Of a night on which few pairs are new, few are in doubt.
    size = int(np.ceil(max(_MIN_BATCH, effort.batch_share * len(field)) * field.share_new))
    while len(todo) and num_idle < effort.patience:
        todo = todo[np.argsort(_forecast(field, predictors)[todo], kind="stable")]
        batch, todo = todo[:size], todo[size:]
        cutoff = wanted.cutoff(field.solved_distances())
        field.solve(batch, crew, cutoff=cutoff)
        num_idle = 0 if (field.distances[batch] < cutoff).any() else num_idle + 1
        on_progress(len(likely) - len(todo), len(likely))


def _audit(
    field: PairField,
    wanted: Wanted,
    effort: SearchEffort,
    open_at_first: NDArray[np.intp],
    *,
    expected: NDArray[np.float64],
    crew: Crew,
    rng: np.random.Generator,
) -> Audit:
    """Solve a sample of the pairs left out without certainty, more of those that are likelier to be near.

    Strata by expected distance, each several times as large as the one before, get the same number of
    samples each; a near pair counts for as many as its sample stood for.
    """
    cutoff = wanted.cutoff(field.solved_distances())
    left = open_at_first[~field.is_solved[open_at_first] & (field.lower[open_at_first] <= cutoff)]
    left = left[np.argsort(expected[left], kind="stable")]
    strata = np.split(left, _borders(wanted.expected_number(expected), len(left)))
    # Of a night on which few pairs are new, few are audited: the others were when they were new.
    share_new = len(open_at_first) / max(len(field), 1)
    num_samples = int(np.ceil(effort.num_audited * share_new / len(strata)))
    num_audited, num_missed = 0, 0.0
    for stratum in strata:
        sample = rng.permutation(stratum)[:num_samples]
        field.solve(sample, crew)
        if len(sample):
            num_missed += float((field.distances[sample] < cutoff).mean()) * len(stratum)
            num_audited += len(sample)
    return Audit(num_audited, num_missed)


def _borders(num_wanted: int, num_left: int) -> list[int]:
    """Where the strata end, the last one aside."""
    borders = [max(1, _FIRST_STRATUM * num_wanted)]
    while borders[-1] < num_left:
        borders.append(borders[-1] + borders[-1] * _STRATUM_GROWTH)
    return borders[:-1]
