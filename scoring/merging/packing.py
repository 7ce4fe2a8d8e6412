"""The cheapest disjoint groups, by integer programming (HiGHS through scipy).

A table of distances comes in, the chosen groups go out. There can be millions of possible groups of three;
most never reach the solver, because their prices show that they cannot stand in the best choice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, linprog, milp
from scipy.sparse import csr_array

from scoring.merging.candidates import Candidates

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scoring.merging.pairs import PairTable

#: Groups that the programme starts with, and takes in at a time.
_NUM_COLUMNS = 1_000
_TIME_LIMIT_S = 60.0
_ROUNDING = 1e-9


def pack_groups(table: PairTable, *, target: int | None) -> tuple[list[tuple[int, ...]], bool]:
    """Disjoint groups that save `target` extractors at the least cost, or as many as can be saved.

    Set packing: minimise sum(cost_g x_g) + penalty * short, where each item stands in at most one chosen
    group and each pinned one in exactly one, and sum((size_g - 1) x_g) + short >= target. The penalty exceeds
    what any choice costs, so that an extractor is never kept because saving it is dear.

    Returns:
        the groups, and whether no better choice exists (else time ran out at a good one)

    Raises:
        InvalidInputError: there are too many possible groups to choose among.
    """
    candidates = Candidates.of(table)
    if not len(candidates):
        return [], True
    programme = _Programme(candidates, table, len(table.items) if target is None else target)
    columns, lowest, reduced_costs = programme.price()
    chosen, cost, proven = programme.choose(columns)
    # A group whose reduced cost exceeds the gap to the relaxation stands in no better choice.
    worth = np.flatnonzero(reduced_costs <= cost - lowest + _ROUNDING * programme.penalty)
    if len(np.setdiff1d(worth, columns)):
        chosen, _, proven = programme.choose(np.union1d(worth, columns))
    return [candidates.group(int(place)) for place in chosen], proven


class _Programme:
    """The set packing, over as many of the candidates as asked for."""

    def __init__(self, candidates: Candidates, table: PairTable, target: int) -> None:
        self._candidates = candidates
        self._num_items = len(table.items)
        self._target = target
        self._pinned = np.zeros(self._num_items, dtype=bool)
        self._pinned[[place for seed in table.seeds for place in seed]] = True
        self._seeds = candidates.find(table.seeds)
        per_item = np.abs(candidates.costs) / candidates.sizes
        self.penalty = 1.0 + 2 * self._num_items * float(per_item.max())

    def price(self) -> tuple[NDArray[np.intp], float, NDArray[np.float64]]:
        """Solve the relaxation by column generation (Gilmore and Gomory, 1961).

        Returns:
            the groups taken in, the relaxation's cost, and every candidate's reduced cost [num_candidates]
        """
        saved = self._candidates.sizes - 1
        cheapest = np.argsort(self._candidates.costs / saved, kind="stable")[:_NUM_COLUMNS]
        columns = np.union1d(cheapest, self._seeds)
        while True:
            lowest, item_prices, saving_price = self._relaxation(columns)
            # Place -1, where a group has no further item, reads the zero at the end.
            prices = np.append(item_prices, 0.0)[self._candidates.members].sum(axis=1)
            reduced_costs: NDArray[np.float64] = self._candidates.costs - prices - saved * saving_price
            lacking = np.setdiff1d(np.flatnonzero(reduced_costs < -_ROUNDING * self.penalty), columns)
            if not len(lacking):
                return columns, lowest, reduced_costs
            best = lacking[np.argsort(reduced_costs[lacking], kind="stable")[:_NUM_COLUMNS]]
            columns = np.union1d(columns, best)

    def choose(self, columns: NDArray[np.intp]) -> tuple[NDArray[np.intp], float, bool]:
        """The best choice among these groups, what it costs with its penalty, and whether that is proven."""
        rows, costs = self._rows(columns), self._costs(columns)
        limits = LinearConstraint(rows, *self._limits())
        result = milp(
            costs,
            integrality=np.ones(len(costs), dtype=np.int64),
            bounds=Bounds(0, np.append(np.ones(len(columns)), self._target)),
            constraints=limits,
            options={"mip_rel_gap": 0.0, "time_limit": _TIME_LIMIT_S},
        )
        # Where time ran out before any choice was found, the pinned groups alone are one.
        chosen = self._seeds if result.x is None else columns[result.x[:-1] > 0.5]
        short = max(0, self._target - int((self._candidates.sizes[chosen] - 1).sum()))
        cost = float(self._candidates.costs[chosen].sum()) + self.penalty * short
        return chosen, cost, result.status == 0

    def _relaxation(self, columns: NDArray[np.intp]) -> tuple[float, NDArray[np.float64], float]:
        """Cost without wholeness, and the prices of an item's place and of a saved extractor."""
        rows, (least, most) = self._rows(columns).toarray(), self._limits()
        # Each row once from above; pinned items' rows, and the one of what is saved, from below as well.
        from_below = np.flatnonzero(least > 0)
        result = linprog(
            self._costs(columns),
            A_ub=np.vstack([rows[: self._num_items], -rows[from_below]]),
            b_ub=np.concatenate([most[: self._num_items], -least[from_below]]),
            bounds=(0, None),
        )
        marginals = result.ineqlin.marginals
        prices = np.append(marginals[: self._num_items], 0.0)
        prices[from_below] -= marginals[self._num_items :]
        return float(result.fun or 0.0), prices[:-1], float(prices[-1])

    def _costs(self, columns: NDArray[np.intp]) -> NDArray[np.float64]:
        return np.append(self._candidates.costs[columns], self.penalty)

    def _limits(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Least and most of each row: the items' places, then the extractors saved."""
        least = np.append(self._pinned.astype(np.float64), self._target)
        return least, np.append(np.ones(self._num_items), np.inf)

    def _rows(self, columns: NDArray[np.intp]) -> csr_array:
        """A row an item, one for the extractors saved; a column a group, one for what falls short."""
        members, sizes = self._candidates.members[columns], self._candidates.sizes[columns]
        group, slot = np.nonzero(members >= 0)
        saved_row = np.full(len(columns) + 1, self._num_items)
        rows = np.concatenate([members[group, slot], saved_row])
        places = np.concatenate([group, np.arange(len(columns) + 1)])
        values = np.concatenate([np.ones(len(group)), sizes - 1, [1.0]])
        return csr_array((values, (rows, places)), shape=(self._num_items + 1, len(columns) + 1))
