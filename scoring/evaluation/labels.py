"""Figures over all traits of an answer at once, for many resamples.

What passes through here are distinct rows of machine and human levels [num_distinct, num_traits] and how
often each row was drawn [num_resamples, num_distinct]. Each function gives one value a resample, and on the
answers themselves exactly what its namesake in `scoring.metrics` gives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Levels = NDArray[np.int64]
    Floats = NDArray[np.float64]


def exact_matches(machine: Levels, human: Levels, counts: Levels) -> Floats:
    """`scoring.metrics.exact_match` of each resample."""
    right: Floats = counts @ (machine == human).all(axis=1) / counts.sum(axis=1)
    return right


def per_label_accuracies(machine: Levels, human: Levels, counts: Levels) -> Floats:
    """`scoring.metrics.per_label_accuracy` of each resample."""
    right: Floats = counts @ (machine == human).mean(axis=1) / counts.sum(axis=1)
    return right


def micro_f1s(machine: Levels, human: Levels, counts: Levels) -> Floats:
    """`scoring.metrics.micro_f1_of_labels` of each resample; labels are 0 or 1."""
    hits, occurrences = _hits_and_occurrences(machine, human, counts)
    return _f1(hits.sum(axis=1), occurrences.sum(axis=1))


def macro_f1s(machine: Levels, human: Levels, counts: Levels) -> Floats:
    """`scoring.metrics.macro_f1_of_labels` of each resample; labels are 0 or 1."""
    each = label_f1s(machine, human, counts)
    num_occurring = (~np.isnan(each)).sum(axis=1)
    return np.where(num_occurring > 0, np.nansum(each, axis=1) / np.maximum(num_occurring, 1), np.nan)


def label_f1s(machine: Levels, human: Levels, counts: Levels) -> Floats:
    """F1 of each label [num_resamples, num_labels]; nan where it occurs on neither side."""
    return _f1(*_hits_and_occurrences(machine, human, counts))


def _hits_and_occurrences(machine: Levels, human: Levels, counts: Levels) -> tuple[Levels, Levels]:
    return counts @ (machine * human), counts @ (machine + human)


def _f1(hits: Levels, occurrences: Levels) -> Floats:
    return np.where(occurrences > 0, 2 * hits / np.maximum(occurrences, 1), np.nan)
