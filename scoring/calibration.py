"""Fitting a trait's decision: temperature, cut points and review threshold.

Logits and human levels of answers kept out of training pass through here as numpy arrays; a `Decision` goes
out, for `scoring.heads.decide` to apply. The room knows no encoder and no text.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from scipy.stats import binom

from scoring.heads import decide
from scoring.metrics import quadratic_weighted_kappa
from scoring.types import Decision

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

#: A review threshold above any confidence: every answer goes to a human reader.
REVIEW_ALL = 2.0

_LOG_TEMPERATURE_BOUNDS = (np.log(0.2), np.log(10.0))
#: Standard deviation of log T before any answer is seen: ten answers that happen to be all right would ask
#: for the least temperature there is, and make certainties of the next ten.
_LOG_TEMPERATURE_SPREAD = 0.5
#: How far a fitted cut point may leave the middle between its two levels.
_MAX_SHIFT = 0.4
_NUM_RESAMPLES = 400
_NUM_PARTS = 5


def fit_decision(logits: ArrayLike, human: ArrayLike, *, risk: float, certainty: float) -> Decision:
    """Fit a trait's decision on answers that the model was not trained on.

    Temperature and cut points are fitted on all of them. The review threshold promises a risk, so it looks at
    confidences that cross-fitting gives: each answer is decided by a temperature and cut points that were
    fitted without it. (What is left of optimism: the same answers may have told training when to stop.)

    Args:
        logits: the trait's logits [num_answers, num_levels]
        human: human levels [num_answers]
        risk: largest share of wrong levels wanted among the answers that no human reads.
        certainty: how sure to be that this share is kept.
    """
    table, levels = np.asarray(logits, dtype=np.float64), np.asarray(human)
    confidence, right = cross_fitted(table, levels)
    review_below = review_threshold(confidence, right, risk=risk, certainty=certainty)
    return replace(_fit_levels(table, levels), review_below=review_below)


def cross_fitted(
    logits: NDArray[np.float64], human: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Confidence of each answer, and whether its level is right, decided by what the others told.

    Five parts, each with about its share of every level; an answer's part follows from its place.

    Returns:
        confidence [num_answers], right [num_answers]
    """
    part = np.empty(len(human), dtype=np.int64)
    part[np.argsort(human, kind="stable")] = np.arange(len(human)) % _NUM_PARTS
    confidence = np.zeros(len(human), dtype=np.float32)
    right = np.zeros(len(human), dtype=np.bool_)
    for number in range(min(_NUM_PARTS, len(human))):
        inside = part == number
        others = _fit_levels(logits[~inside], human[~inside]) if not inside.all() else Decision()
        decided = decide(logits[inside], others)
        confidence[inside], right[inside] = decided.confidence, decided.level == human[inside]
    return confidence, right


def _fit_levels(logits: NDArray[np.float64], human: NDArray[np.int64]) -> Decision:
    temperature = fit_temperature(logits, human)
    cut_points = fit_cut_points(softmax(logits / temperature, axis=1), human)
    return Decision(temperature=temperature, cut_points=cut_points)


def fit_temperature(logits: NDArray[np.float64], human: NDArray[np.int64]) -> float:
    """Temperature in 0.2..10 (Guo et al., 2017), the most likely one where log T is normal about 0.

    The least of `sum -log softmax(logits / T)[human] + (log T)^2 / (2 s^2)`, s = 0.5: hundreds of answers
    have their way, a dozen do not.
    """
    rows = np.arange(len(human))

    def loss(log_temperature: float) -> float:
        told = -log_softmax(logits / np.exp(log_temperature), axis=1)[rows, human].sum()
        return float(told + (log_temperature / _LOG_TEMPERATURE_SPREAD) ** 2 / 2)

    found = minimize_scalar(loss, bounds=_LOG_TEMPERATURE_BOUNDS, method="bounded")
    return float(np.exp(found.x))


def fit_cut_points(probabilities: NDArray[np.float64], human: NDArray[np.int64]) -> tuple[float, ...]:
    """Cut points on the expected level, where they give a better quadratic weighted kappa.

    Two candidates stand against "most likely level": the middles 0.5, 1.5, ... (which minimise the expected
    squared difference, the measure behind the kappa) and, started from them, points moved one after the other
    to the best kappa. The plainer way is kept unless the other one's gain on these answers is above its own
    standard error (paired bootstrap).

    Returns:
        ascending cut points [num_levels - 1], or none for "most likely level"
    """
    num_levels = probabilities.shape[1]
    if num_levels == 2:
        return ()
    expected = _expected_level(probabilities)
    best: tuple[float, ...] = ()
    best_levels = probabilities.argmax(axis=1)
    middles = tuple(level + 0.5 for level in range(num_levels - 1))
    for candidate in (middles, _moved(middles, expected, human)):
        levels = np.searchsorted(candidate, expected, side="right")
        if _gains(levels, best_levels, human):
            best, best_levels = candidate, levels
    return best


def review_threshold(confidence: ArrayLike, right: ArrayLike, *, risk: float, certainty: float) -> float:
    """Lowest confidence down to which at most a share `risk` of levels is wrong, at the stated certainty.

    Fixed-sequence testing (Angelopoulos et al., Learn then Test, 2021): going down from the most confident
    answers, each longer prefix is tested by the exact binomial tail, P(X <= errors | n, risk) <=
    1 - certainty, and the first failure ends it. The first prefix tested is the shortest that could pass
    without any error (22 answers for a risk of 0.1 at 0.9), so that small folds certify nothing and say so.

    Returns:
        the threshold, or `REVIEW_ALL` where nothing can be certified
    """
    confidences = np.asarray(confidence, dtype=np.float64)
    order = np.argsort(-confidences, kind="stable")
    num_errors = np.cumsum(~np.asarray(right, dtype=np.bool_)[order])
    shortest = math.ceil(math.log(1 - certainty) / math.log1p(-risk))
    threshold = REVIEW_ALL
    for index in range(shortest - 1, len(order)):
        if index + 1 < len(order) and confidences[order[index + 1]] == confidences[order[index]]:
            continue  # a threshold cannot part equal confidences
        if binom.cdf(num_errors[index], index + 1, risk) > 1 - certainty:
            break
        threshold = float(confidences[order[index]])
    return threshold


def _expected_level(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    return probabilities @ np.arange(probabilities.shape[1], dtype=np.float64)


def _moved(
    start: tuple[float, ...], expected: NDArray[np.float64], human: NDArray[np.int64]
) -> tuple[float, ...]:
    """Coordinate ascent on the kappa: each cut point in turn to the best place within reach."""
    points = list(start)
    shifts = np.linspace(-_MAX_SHIFT, _MAX_SHIFT, 17)
    for _ in range(2):
        for index, middle in enumerate(start):
            kappas = [
                quadratic_weighted_kappa(
                    np.searchsorted(
                        [*points[:index], middle + shift, *points[index + 1 :]], expected, side="right"
                    ),
                    human,
                )
                for shift in shifts
            ]
            if not np.isnan(kappas).all():
                # Many places give the same kappa: take the middle of the best ones.
                points[index] = middle + float(shifts[np.flatnonzero(kappas == np.nanmax(kappas))].mean())
    return tuple(points)


def _gains(levels: NDArray[np.int64], than: NDArray[np.int64], human: NDArray[np.int64]) -> bool:
    """Whether `levels` have a better kappa than `than` by more than the gain's standard error."""
    gain = quadratic_weighted_kappa(levels, human) - quadratic_weighted_kappa(than, human)
    if not gain > 0:
        return False
    draws = np.random.default_rng(0).integers(len(human), size=(_NUM_RESAMPLES, len(human)))
    gains = [
        quadratic_weighted_kappa(levels[draw], human[draw])
        - quadratic_weighted_kappa(than[draw], human[draw])
        for draw in draws
    ]
    return bool(gain > np.nanstd(gains))
