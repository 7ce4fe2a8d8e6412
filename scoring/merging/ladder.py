"""The search among very many pairs: every rung costs more a pair than the one below, and sees fewer pairs.

First, summaries of all pairs and a forecast learned from a few solved ones; then coarse distances of the
pairs that the forecast puts nearest; then the solver, nearest first, until nothing nearer turns up. What that
misses is estimated by solving a sample of the pairs left out. Nothing here is certified.
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

#: Shares of the pairs left out, nearest by forecast first, at which the strata of an audit end.
_AUDIT_BORDERS = (0.01, 0.03, 0.1, 0.3)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchEffort:
    """How much a search may cost.

    Attributes:
        max_exact_pairs: up to this many pairs are searched by branch and bound, and nothing is left to a
            forecast; None for always
        coarse_answers: answers of each cloud in a coarse distance
        coarse_share: share of the pairs that get one
        num_trials: pairs solved at first, for the forecast to learn from
        batch_share: share of the pairs solved between two looks at what they brought
        patience: batches in a row that bring nothing nearer before the search ends
        num_audited: pairs solved at the end, of those left out, to measure what was missed
        num_processes: processes that solve, one core each
        seed: of the pairs that are tried and audited
    """

    max_exact_pairs: int | None = 5_000
    coarse_answers: int = 100
    coarse_share: float = 0.03
    num_trials: int = 200
    batch_share: float = 0.0005
    patience: int = 2
    num_audited: int = 200
    num_processes: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.coarse_share <= 1 or not 0 < self.batch_share <= 1:
            raise InvalidInputError("coarse_share and batch_share lie above 0 and go up to 1")
        if self.coarse_answers < 2 or self.num_trials < 2 or self.patience < 1:
            raise InvalidInputError("a search needs 2 coarse answers, 2 trials and a patience of 1 at least")


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
    trials = _try_some(field, effort, crew=crew, rng=rng)
    predictors = field.predictors()
    expected = _forecast(field, predictors)
    likely = np.argsort(expected, kind="stable")[: int(np.ceil(effort.coarse_share * len(field)))]
    # What an earlier night left unsolved has been judged; its estimates would only be made again.
    likely = likely[field.is_new[likely] & ~field.is_solved[likely]]
    field.sift(np.union1d(likely, trials), crew)
    predictors = np.column_stack([predictors, field.coarse, field.coarse**2])
    open_at_first = np.flatnonzero(field.is_new & ~field.is_solved)
    _solve_nearest(
        field, wanted, effort, likely=likely, predictors=predictors, crew=crew, on_progress=on_progress
    )
    return _audit(field, wanted, effort, open_at_first, expected=expected, crew=crew, rng=rng)


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
    return rng.permutation(solved)[: effort.num_trials]


def _forecast(field: PairField, predictors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Expected distances of all pairs [num_pairs]; infinite where a predictor is missing."""
    complete = ~np.isnan(predictors).any(axis=1)
    learned = field.is_solved & complete
    forecast = Forecast.fit(predictors[learned], field.distances[learned])
    expected = np.full(len(field), np.inf)
    expected[complete] = forecast.expect(predictors[complete])
    return expected


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
    size = max(1, int(np.ceil(effort.batch_share * len(likely) / effort.coarse_share)))
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

    Strata by expected distance, each some three times as large as the one before, get the same number of
    samples each; a near pair counts for as many as its sample stood for.
    """
    cutoff = wanted.cutoff(field.solved_distances())
    left = open_at_first[~field.is_solved[open_at_first] & (field.lower[open_at_first] <= cutoff)]
    left = left[np.argsort(expected[left], kind="stable")]
    # Of a night on which few pairs are new, few are audited: the others were when they were new.
    num_strata = len(_AUDIT_BORDERS) + 1
    num_samples = int(np.ceil(effort.num_audited * len(open_at_first) / max(len(field), 1) / num_strata))
    num_audited, num_missed = 0, 0.0
    for stratum in np.split(left, [int(share * len(left)) for share in _AUDIT_BORDERS]):
        sample = rng.permutation(stratum)[:num_samples]
        field.solve(sample, crew)
        if len(sample):
            num_missed += float((field.distances[sample] < cutoff).mean()) * len(stratum)
            num_audited += len(sample)
    return Audit(num_audited, num_missed)
