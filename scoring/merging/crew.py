"""Processes that solve pairs, one BLAS thread each: the work is many small problems, not a few large ones.

Pairs of relational matrices go in, distances come back in the same order; nothing here knows which items they
belong to.
"""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from threadpoolctl import threadpool_limits

from scoring.merging.distances import estimated_distance, gw_distance, third_bound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from scoring.merging.distances import GwSettings
    from scoring.merging.relations import Relations

    SamplePair = tuple[NDArray[np.float32], NDArray[np.float32]]

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")

#: Bounds of coinciding clouds come out this far from 0.
ROUNDING = 1e-7
#: Pairs handed to each process at a time: enough to keep it busy, few enough to hold in memory.
_QUEUE_LENGTH = 8
#: Pairs estimated in one go, which take 80 KB each at 100 answers and 1.3 MB at 400.
_SIFTED_AT_ONCE = 16


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """One pair to solve, unless its third bound alone shows that it lies beyond the cutoff."""

    first: Relations
    second: Relations
    settings: GwSettings
    cutoff: float
    device: str | None = None


@dataclass(frozen=True, slots=True)
class Solution:
    """A pair's certain lower bound, and its distance unless the bound lies beyond the cutoff."""

    lower_bound: float
    distance: float | None


@dataclass(frozen=True, slots=True)
class Crew:
    """Who works: this process, or several others where a pool is given."""

    pool: ProcessPoolExecutor | None = None
    num_processes: int = 1

    def solve(self, problems: Iterable[Problem]) -> Iterator[Solution]:
        """Solutions in the order of the problems, which are made as they are needed."""
        return self._map(solve, problems, chunk_size=1)

    def sift(self, pairs: Iterable[SamplePair]) -> Iterator[float]:
        """Estimated distances of pairs of samples' relational matrices, in their order."""
        return self._map(_sift, pairs, chunk_size=_SIFTED_AT_ONCE)

    def _map(
        self, work: Callable[[_Task], _Result], tasks: Iterable[_Task], *, chunk_size: int
    ) -> Iterator[_Result]:
        if self.pool is None:
            yield from map(work, tasks)
            return
        remaining = iter(tasks)
        # The pool's own map would make all tasks at once, and they hold matrices.
        while batch := list(islice(remaining, _QUEUE_LENGTH * self.num_processes * chunk_size)):
            yield from self.pool.map(work, batch, chunksize=chunk_size)


@contextmanager
def crew(num_processes: int) -> Iterator[Crew]:
    """Workers for the length of the block; one alone works in this process."""
    if num_processes <= 1:
        with threadpool_limits(1):
            yield Crew()
        return
    # Spawned, because a fork would copy this process's threads in whatever state they are.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_processes, mp_context=context, initializer=_settle) as pool:
        yield Crew(pool, num_processes)


def _settle() -> None:
    """One BLAS thread in a new process; to find this function it has loaded numpy, scipy and POT by now."""
    threadpool_limits(1)


def solve(problem: Problem) -> Solution:
    """Bound first; the solver only if the bound does not settle it."""
    bound = third_bound(problem.first, problem.second)
    if bound.distance > problem.cutoff + ROUNDING:
        return Solution(bound.distance, None)
    result = gw_distance(problem.first, problem.second, problem.settings, bound=bound, device=problem.device)
    return Solution(bound.distance, result.distance)


def _sift(pair: SamplePair) -> float:
    return estimated_distance(*pair)
