"""Answers of one item that a machine and people have read: tables of levels, nan where nobody gave one.

What passes through here are numbers of levels and, where known, groups of students. The room knows no text,
no student and no place where the levels came from.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from scoring.types import Trait


@dataclass(frozen=True, slots=True, kw_only=True)
class Reads:
    """One item's answers; a row an answer, a column a trait, nan where there is no level.

    Attributes:
        item_id: the item
        traits: names and numbers of levels, in the order of the columns
        response_ids: names of the answers [num_answers]
        machine: the machine's levels [num_answers, num_traits]
        human: the human level that counts [num_answers, num_traits]
        first: one person's level where two people read the answer [num_answers, num_traits]
        second: the other person's level [num_answers, num_traits]
        groups: a grouping's name -> each answer's group, "" where not known [num_answers]
    """

    item_id: str
    traits: Sequence[Trait]
    response_ids: Sequence[str]
    machine: NDArray[np.float64]
    human: NDArray[np.float64]
    first: NDArray[np.float64]
    second: NDArray[np.float64]
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = len(self.response_ids), len(self.traits)
        for name in ("machine", "human", "first", "second"):
            table = getattr(self, name)
            if table.shape != shape:
                raise ValueError(f"item {self.item_id!r}: {name} is {table.shape}, expected {shape}")
        for name, groups in self.groups.items():
            if len(groups) != len(self.response_ids):
                raise ValueError(
                    f"item {self.item_id!r}: {len(groups)} values of {name} for {shape[0]} answers"
                )

    def __len__(self) -> int:
        return len(self.response_ids)

    def paired(self, column: int) -> NDArray[np.bool_]:
        """Answers whose trait both the machine and a person gave a level [num_answers]."""
        return ~np.isnan(self.machine[:, column]) & ~np.isnan(self.human[:, column])

    def double_read(self, column: int) -> NDArray[np.bool_]:
        """Answers whose trait two people gave a level [num_answers]."""
        return ~np.isnan(self.first[:, column]) & ~np.isnan(self.second[:, column])

    def complete(self) -> NDArray[np.bool_]:
        """Answers of which every trait has a machine's and a human level [num_answers]."""
        num_missing = np.isnan(np.hstack([self.machine, self.human])).sum(axis=1)
        complete: NDArray[np.bool_] = num_missing == 0
        return complete
