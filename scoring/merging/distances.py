"""Gromov-Wasserstein distances by POT; the only room that imports it.

Relational matrices come in, distances with their lower bounds go out. Knows no item and keeps nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import ot

from scoring.errors import InvalidInputError
from scoring.merging.bounds import third_bound_costs
from scoring.merging.relations import relate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scoring.merging.clouds import FeatureCloud
    from scoring.merging.relations import Relations


@dataclass(frozen=True, slots=True, kw_only=True)
class GwSettings:
    """How a distance is computed; stored with it, because another setting gives another number."""

    num_answers: int = 400
    starts: tuple[str, ...] = ("tlb", "uniform")
    max_iter: int = 50
    tol_rel: float = 1e-5
    seed: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class GwResult:
    """One pair's distance: a local optimum, so an upper bound of the true one.

    Attributes:
        distance: sqrt(GW^2) / 2, as Memoli (2011) and POT's documentation define it
        lower_bound: sqrt(TLB) / 2, certified: the true distance is not below it
        start: which start gave the best value
        plan: the coupling [num_first, num_second]
    """

    distance: float
    lower_bound: float
    start: str
    plan: NDArray[np.float64] | None


def gw_distance(first: Relations, second: Relations, settings: GwSettings) -> GwResult:
    """Conditional gradient from every start, the best kept."""
    p, q = ot.unif(len(first)), ot.unif(len(second))
    tlb_plan, log = ot.emd(p, q, third_bound_costs(first, second), log=True)
    best: tuple[float, str, NDArray[np.float64]] | None = None
    for start in settings.starts:
        plan, log_gw = ot.gromov.gromov_wasserstein(
            first.matrix,
            second.matrix,
            p,
            q,
            symmetric=True,
            log=True,
            G0=tlb_plan if start == "tlb" else None,
            max_iter=settings.max_iter,
            tol_rel=settings.tol_rel,
        )
        value = max(float(log_gw["gw_dist"]), 0.0)
        if best is None or value < best[0]:
            best = value, start, plan
    if best is None:
        raise InvalidInputError("no start given for the solver")
    return GwResult(float(np.sqrt(best[0])) / 2, float(np.sqrt(max(log["cost"], 0.0))) / 2, best[1], best[2])


def noise_floor(cloud: FeatureCloud, settings: GwSettings) -> float:
    """The distance between two disjoint samples of one item, below which no two items can be told apart."""
    half = min(len(cloud) // 2, settings.num_answers)
    return gw_distance(
        relate(cloud.features[:half]), relate(cloud.features[half : 2 * half]), settings
    ).distance
