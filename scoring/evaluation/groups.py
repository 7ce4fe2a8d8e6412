"""Whether the machine treats a group of students as people do: differences of standardised means.

What passes through here are levels and the group of each answer; who the students are is not known here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Levels = NDArray[np.int64]
    Floats = NDArray[np.float64]


def differences_of_standardised_means(
    machine: Levels, human: Levels, *, member: NDArray[np.bool_], counts: Levels
) -> Floats:
    """DSM of one group, a value a resample: how much the machine favours it, in standard deviations.

    `mean over the group of (m - mean m) / sd m, less the same of h`, means and sd (n - 1) over all answers
    (RSMTool's figure since its version 7). A mean difference that all groups share cancels.

    Args:
        machine: levels of the distinct rows [num_distinct]
        human: levels of the distinct rows [num_distinct]
        member: which rows belong to the group [num_distinct]
        counts: how often each row was drawn [num_resamples, num_distinct]

    Returns:
        nan where the group is empty or a column does not vary [num_resamples]
    """
    return _standardised_mean(machine, member, counts) - _standardised_mean(human, member, counts)


def _standardised_mean(levels: Levels, member: NDArray[np.bool_], counts: Levels) -> Floats:
    n, num_members = counts.sum(axis=1), counts @ member
    mean = counts @ levels / n
    squares = (counts * (levels - mean[:, None]) ** 2).sum(axis=1)
    spread = np.sqrt(squares / np.maximum(n - 1, 1))
    defined = (num_members > 0) & (spread > 1e-12)
    group_mean = counts @ (levels * member) / np.maximum(num_members, 1)
    return np.where(defined, (group_mean - mean) / np.where(defined, spread, 1), np.nan)
