"""The figures of `scoring.metrics`, for many resamples at once.

What passes through here are stacks of agreement tables: how many answers the machine put on level i and
people on level j [num_resamples, num_levels, num_levels]. Each function gives one value a resample, nan where
the figure is not defined, and on the table of the answers themselves exactly what `scoring.metrics` gives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


def agreement_tables(
    machine: NDArray[np.int64], human: NDArray[np.int64], counts: NDArray[np.int64], *, num_levels: int
) -> Floats:
    """Agreement tables of resamples [num_resamples, num_levels, num_levels].

    Args:
        machine: levels of the distinct rows [num_distinct]
        human: levels of the distinct rows [num_distinct]
        counts: how often each row was drawn [num_resamples, num_distinct]
        num_levels: no level is as high as this.
    """
    cells = np.zeros((len(machine), num_levels, num_levels))
    cells[np.arange(len(machine)), machine, human] = 1
    return np.tensordot(counts.astype(np.float64), cells, axes=1)


def quadratic_weighted_kappas(tables: Floats) -> Floats:
    """`scoring.metrics.quadratic_weighted_kappa` of each table."""
    n, mean_m, mean_h, var_m, var_h = _moments(tables)
    levels = np.arange(tables.shape[1])
    products = (tables * np.multiply.outer(levels, levels)).sum(axis=(1, 2)) / n
    divisor = var_m + var_h + (mean_m - mean_h) ** 2
    return _ratio(2 * (products - mean_m * mean_h), np.where(n >= 2, divisor, 0))


def accuracies(tables: Floats) -> Floats:
    """`scoring.metrics.accuracy` of each table."""
    return adjacent_agreements(tables, distance=0)


def adjacent_agreements(tables: Floats, *, distance: int = 1) -> Floats:
    """`scoring.metrics.adjacent_agreement` of each table."""
    levels = np.arange(tables.shape[1])
    near = np.abs(np.subtract.outer(levels, levels)) <= distance
    return _ratio((tables * near).sum(axis=(1, 2)), tables.sum(axis=(1, 2)))


def macro_f1s(tables: Floats) -> Floats:
    """`scoring.metrics.macro_f1` of each table: levels that occur on neither side are left out."""
    hits = np.diagonal(tables, axis1=1, axis2=2)
    occurrences = tables.sum(axis=1) + tables.sum(axis=2)
    f1s = np.where(occurrences > 0, 2 * hits / np.maximum(occurrences, 1), 0)
    return _ratio(f1s.sum(axis=1), (occurrences > 0).sum(axis=1))


def standardised_mean_differences(tables: Floats) -> Floats:
    """`scoring.metrics.standardised_mean_difference` of each table."""
    n, mean_m, mean_h, _, var_h = _moments(tables)
    spread = np.sqrt(var_h * n / np.maximum(n - 1, 1))
    return _ratio(mean_m - mean_h, np.where(n >= 2, spread, 0))


def _moments(tables: Floats) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Number of answers, means and population variances of machine and human levels, a value a table."""
    n = tables.sum(axis=(1, 2))
    levels = np.arange(tables.shape[1])
    shares = tables / np.maximum(n, 1)[:, None, None]
    machine, human = shares.sum(axis=2), shares.sum(axis=1)
    mean_m, mean_h = machine @ levels, human @ levels
    var_m = ((levels - mean_m[:, None]) ** 2 * machine).sum(axis=1)
    var_h = ((levels - mean_h[:, None]) ** 2 * human).sum(axis=1)
    return np.maximum(n, 1), mean_m, mean_h, var_m, var_h


def _ratio(above: Floats, below: NDArray[np.floating] | NDArray[np.integer]) -> Floats:
    # Rounding leaves specks of variance where there is none.
    defined = below > 1e-12
    return np.where(defined, above / np.where(defined, below, 1), np.nan)
