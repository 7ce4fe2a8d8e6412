"""Agreement between machine levels and human levels.

Columns of whole numbers pass through here as numpy arrays. The room knows no item, no fold and no model.

Human zeros count. Where a figure is not defined (no answers; no variance, for figures that divide by it) the
result is nan and never an invented 0 or 1.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def quadratic_weighted_kappa(machine: ArrayLike, human: ArrayLike) -> float:
    """Cohen's kappa with quadratic weights (Cohen, 1968), in its closed form.

    With weights (i - j)^2 the discrete definition, 1 - sum(w O) / sum(w E), needs no confusion matrix: it is
    `2 cov(m, h) / (var m + var h + (mean m - mean h)^2)` with population moments (divided by n). Being a
    function of moments it does not depend on the number of levels, and SQL can compute the same figure.
    (scikit-learn's `cohen_kappa_score` agrees only if `labels` names every level: without it, levels that do
    not occur are closed up and 0 and 3 count as neighbours.)

    Args:
        machine: levels [num_answers]
        human: levels [num_answers]

    Returns:
        A value in -1..1; nan for fewer than two answers, or when both columns hold one and the same level.

    Raises:
        ValueError: the columns differ in length.
    """
    m, h = _columns(machine, human)
    if m.size < 2:
        return math.nan
    divisor = m.var() + h.var() + (m.mean() - h.mean()) ** 2
    covariance = ((m - m.mean()) * (h - h.mean())).mean()
    return float(2 * covariance / divisor) if divisor > 0 else math.nan


def accuracy(machine: ArrayLike, human: ArrayLike) -> float:
    """Share of answers on which both give the same level; nan without answers."""
    return adjacent_agreement(machine, human, distance=0)


def adjacent_agreement(machine: ArrayLike, human: ArrayLike, *, distance: int = 1) -> float:
    """Share of answers on which the levels are at most `distance` apart; nan without answers."""
    m, h = _columns(machine, human)
    return float((np.abs(m - h) <= distance).mean()) if m.size else math.nan


def macro_f1(machine: ArrayLike, human: ArrayLike) -> float:
    """Unweighted mean, over the levels that occur in either column, of `2 tp / (2 tp + fp + fn)`.

    nan without answers. Levels of the rubric that neither column shows have no F1 and are left out.
    """
    m, h = _columns(machine, human)
    levels = np.union1d(m, h)
    if not levels.size:
        return math.nan
    return float(np.mean([_f1(m == level, h == level) for level in levels]))


def micro_f1_of_labels(machine: ArrayLike, human: ArrayLike) -> float:
    """F1 over all cells of two tables of 0/1 labels, `2 tp / (2 tp + fp + fn)`; nan when no cell is 1.

    Args:
        machine: labels [num_answers, num_labels]
        human: labels [num_answers, num_labels]
    """
    m, h = _tables(machine, human)
    return _f1(m == 1, h == 1)


def macro_f1_of_labels(machine: ArrayLike, human: ArrayLike) -> float:
    """Unweighted mean of the labels' F1 over the labels that occur in either table; nan when none does."""
    m, h = _tables(machine, human)
    each = np.array([_f1(m[:, label] == 1, h[:, label] == 1) for label in range(m.shape[1])])
    defined = each[~np.isnan(each)]
    return float(defined.mean()) if defined.size else math.nan


def exact_match(machine: ArrayLike, human: ArrayLike) -> float:
    """Share of answers with every trait right, from tables [num_answers, num_traits]; nan without answers."""
    m, h = _tables(machine, human)
    return float((m == h).all(axis=1).mean()) if m.size else math.nan


def per_label_accuracy(machine: ArrayLike, human: ArrayLike) -> float:
    """Share of right cells, from tables [num_answers, num_traits]; nan without answers.

    Never gate on it: where labels are rare, predicting none at all already scores high.
    """
    m, h = _tables(machine, human)
    return float((m == h).mean()) if m.size else math.nan


def standardised_mean_difference(machine: ArrayLike, human: ArrayLike) -> float:
    """`(mean m - mean h) / sd h`, sd with n - 1: positive where the machine is more generous.

    nan for fewer than two answers, or when the human levels do not vary.
    """
    m, h = _columns(machine, human)
    if h.size < 2:
        return math.nan
    spread = h.std(ddof=1)
    return float((m.mean() - h.mean()) / spread) if spread > 0 else math.nan


def _f1(machine: NDArray[np.bool_], human: NDArray[np.bool_]) -> float:
    divisor = int(machine.sum()) + int(human.sum())
    return 2 * int((machine & human).sum()) / divisor if divisor else math.nan


def _columns(machine: ArrayLike, human: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return _same_shape(machine, human, num_axes=1)


def _tables(machine: ArrayLike, human: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return _same_shape(machine, human, num_axes=2)


def _same_shape(
    machine: ArrayLike, human: ArrayLike, *, num_axes: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    m, h = np.asarray(machine, dtype=np.float64), np.asarray(human, dtype=np.float64)
    if m.shape != h.shape or m.ndim != num_axes:
        raise ValueError(f"machine {m.shape} and human {h.shape} should be alike, with {num_axes} axes")
    return m, h
