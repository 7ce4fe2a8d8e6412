"""Gromov-Wasserstein distances and their bounds by POT; the only room that imports it.

Relational matrices come in, distances go out. Knows no item's name and keeps nothing. On a GPU the solver's
matrix products run by POT's torch backend; its transports run on the CPU wherever the tensors are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import ot

from scoring.errors import InvalidInputError
from scoring.merging.annealing import NUM_ANCHORS, coarse_affinity, matched_affinity
from scoring.merging.bounds import third_bound_costs
from scoring.merging.relations import relate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scoring.merging.clouds import FeatureCloud
    from scoring.merging.relations import Relations

#: The solver's possible starts.
STARTS = ("annealed", "tlb", "uniform")
#: A start is run on all answers when its GW^2 on a small sample is within this share of the best.
_CLOSE = 0.05
_ROUNDING = 1e-12
#: Answers that two disjoint samples take at least.
MIN_FOR_FLOOR = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class GwSettings:
    """How a distance is computed; stored with it, because other settings give another number.

    Attributes:
        num_answers: most answers of an item that are compared
        starts: where the solver starts, the best result kept: "annealed" (soft matching, hardened; the best
            on text), "tlb" (the third bound's coupling; the best on clouds of few dimensions, and exact for
            moved copies), "uniform" (POT's own); of
            large clouds they compete on a small sample first
        max_iter: most steps of conditional gradient from one start
        tol_rel: relative change of GW^2 at which it stops
        seed: of the samples that clouds are made of
        scale: divide all distances by this instead of each cloud's own root mean square
    """

    num_answers: int = 400
    starts: tuple[str, ...] = ("annealed", "tlb")
    max_iter: int = 50
    tol_rel: float = 1e-5
    seed: int = 0
    scale: float | None = None

    def __post_init__(self) -> None:
        if not self.starts or not set(self.starts) <= set(STARTS):
            raise InvalidInputError(f"starts {self.starts}; name one or more of {', '.join(STARTS)}")
        if self.scale is not None and not self.scale > 0:
            raise InvalidInputError(f"scale is {self.scale}; a scale is above 0")
        if self.num_answers < 2:
            raise InvalidInputError(f"num_answers is {self.num_answers}; a cloud has at least 2 answers")

    def relations(self, cloud: FeatureCloud) -> Relations:
        """A cloud's relational matrix as these settings compare it."""
        return relate(cloud.features[: self.num_answers], scale=self.scale)


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
    plan: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class ThirdBound:
    """Memoli's third lower bound of one pair.

    Attributes:
        distance: sqrt(TLB) / 2, in the unit of a distance
        plan: the coupling that attains it, a start for the solver [num_first, num_second]
    """

    distance: float
    plan: NDArray[np.float64]

    def turned(self) -> ThirdBound:
        """The bound as seen from the second cloud."""
        return ThirdBound(self.distance, np.ascontiguousarray(self.plan.T))


def gw_distance(
    first: Relations,
    second: Relations,
    settings: GwSettings,
    *,
    bound: ThirdBound | None = None,
    device: str | None = None,
) -> GwResult:
    """Conditional gradient (POT) from the starts, the best kept; the same in both directions.

    Args:
        first: one cloud
        second: the other
        settings: starts and tolerances
        bound: the pair's third bound, where it is known already
        device: torch's name of where the matrices are multiplied; None for NumPy
    """
    bound = bound or third_bound(first, second)
    if _rank(second) < _rank(first):
        swapped = gw_distance(second, first, settings, bound=bound.turned(), device=device)
        return replace(swapped, plan=swapped.plan.T)
    solved = {
        start: _solve(first, second, _start(start, first, second, bound), settings, device)
        for start in _contenders(first, second, settings)
    }
    best = min(solved, key=lambda start: solved[start][0])
    return GwResult(_distance(solved[best][0]), bound.distance, best, solved[best][1])


def third_bound(first: Relations, second: Relations) -> ThirdBound:
    """TLB by an exact transport; the same in both directions."""
    if _rank(second) < _rank(first):
        return third_bound(second, first).turned()
    return ThirdBound(*_transport(third_bound_costs(first, second)))


def estimated_distance(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """An estimate from samples' relational matrices, without descent: to rank pairs by, no more."""
    is_small = max(len(a), len(b)) <= NUM_ANCHORS
    affinity = coarse_affinity(a, b) if is_small else matched_affinity(a, b)
    plan = _transport(-affinity.astype(np.float64))[1]
    gained = float(((a @ plan @ b) * plan).sum())
    constant = float((a.astype(np.float64) ** 2).mean() + (b.astype(np.float64) ** 2).mean())
    return _distance(constant - 2 * gained)


def noise_floor(cloud: FeatureCloud, settings: GwSettings) -> float:
    """The distance between two disjoint samples of one item, below which no two items can be told apart.

    The samples hold half the cloud each, at most `num_answers`; from fewer answers than a distance rests on,
    the floor comes out too high, never too low.

    Raises:
        InvalidInputError: the cloud has fewer than four answers.
    """
    half = min(len(cloud) // 2, settings.num_answers)
    if len(cloud) < MIN_FOR_FLOOR:
        raise InvalidInputError(f"item {cloud.item_id}: {len(cloud)} answers; a noise floor needs at least 4")
    one, other = cloud.features[:half], cloud.features[half : 2 * half]
    first, second = (relate(sample, scale=settings.scale) for sample in (one, other))
    return gw_distance(first, second, settings).distance


def _contenders(first: Relations, second: Relations, settings: GwSettings) -> tuple[str, ...]:
    """The starts worth running: those that come within a few per cent of the best on a small sample."""
    if len(settings.starts) == 1 or max(len(first), len(second)) <= NUM_ANCHORS:
        return settings.starts
    one, other = first.first(NUM_ANCHORS), second.first(NUM_ANCHORS)
    bound = third_bound(one, other)
    values = {
        start: _solve(one, other, _start(start, one, other, bound), settings)[0] for start in settings.starts
    }
    # Between copies the least GW^2 is 0, or a speck below it.
    limit = max(min(values.values()), 0.0) * (1 + _CLOSE) + _ROUNDING
    return tuple(start for start in values if values[start] <= limit)


def _start(name: str, first: Relations, second: Relations, bound: ThirdBound) -> NDArray[np.float64] | None:
    if name == "annealed":
        a, b = first.matrix.astype(np.float32), second.matrix.astype(np.float32)
        return _transport(-matched_affinity(a, b).astype(np.float64))[1]
    return bound.plan if name == "tlb" else None


def _solve(
    first: Relations,
    second: Relations,
    start: NDArray[np.float64] | None,
    settings: GwSettings,
    device: str | None = None,
) -> tuple[float, NDArray[np.float64]]:
    """GW^2 and its coupling by conditional gradient, from this start or from POT's own."""

    def placed(matrix: NDArray[np.float64] | None) -> Any:
        return matrix if matrix is None or device is None else _tensor(matrix, device)

    plan, log = ot.gromov.gromov_wasserstein(
        placed(first.matrix),
        placed(second.matrix),
        symmetric=True,
        log=True,
        G0=placed(start),
        max_iter=settings.max_iter,
        tol_rel=settings.tol_rel,
    )
    return float(log["gw_dist"]), plan if device is None else plan.cpu().numpy()


def _tensor(matrix: NDArray[np.float64], device: str) -> Any:
    # A crew's processes live without torch where nothing asks for it.
    import torch

    return torch.as_tensor(matrix, device=device)


def _transport(costs: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    """Root of the least cost of a coupling with uniform marginals, halved, and the coupling."""
    plan, log = ot.emd([], [], costs, log=True, numItermax=1_000_000)
    return _distance(float(log["cost"])), plan


def _distance(squared: float) -> float:
    return float(np.sqrt(max(squared, 0.0))) / 2


def _rank(relations: Relations) -> tuple[int, float, bytes]:
    # Which of two clouds comes first must not depend on who asks: local optima may differ by direction.
    return len(relations), float(relations.matrix.mean()), relations.matrix.tobytes()
