"""Golden rows: what a scorer must still say, asked in mixed company before it is let in.

Each newcomer's rows stand in one call beside rows of scorers that are already loaded, because a wrong slot
shows only where adapters mix. Knows logits, but not how they are computed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scoring.errors import GoldenMismatchError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from scoring.engines.roster import LoadedScorer

#: Rows that each companion lends.
_ROWS_PER_COMPANION = 2


@dataclass(frozen=True, slots=True, eq=False)
class GoldenRows:
    """Golden rows of several scorers, column by column.

    Attributes:
        scorers: whose row it is [num_rows]
        texts: [num_rows]
        expected: stored logits, each as wide as its scorer's head [num_rows][num_logits]
    """

    scorers: list[LoadedScorer]
    texts: list[str]
    expected: list[NDArray[np.float32]]

    @classmethod
    def gather(cls, newcomer: LoadedScorer, companions: Sequence[LoadedScorer]) -> GoldenRows:
        """All rows of the newcomer and a few of each companion."""
        rows = cls([], [], [])
        rows._add(newcomer, len(newcomer.artifact.golden_texts))
        for companion in companions:
            rows._add(companion, _ROWS_PER_COMPANION)
        return rows

    def check(self, logits: NDArray[np.float32], *, tolerance: float) -> None:
        """Compare computed logits [num_rows, max_width] with the stored ones.

        Raises:
            GoldenMismatchError: a logit differs by more than the tolerance, or is not a number.
        """
        for scorer, row, expected in zip(self.scorers, logits, self.expected, strict=True):
            difference = float(np.abs(row[: len(expected)] - expected).max())
            # Turned around, so that NaN is refused too.
            if not difference <= tolerance:
                raise GoldenMismatchError(
                    f"scorer {scorer.key[:12]} of item {scorer.artifact.item.item_id}: a golden row's logit "
                    f"is off by {difference:.2g}, allowed {tolerance:.2g}; train or export the scorer again"
                )

    def _add(self, scorer: LoadedScorer, num_rows: int) -> None:
        texts = scorer.artifact.golden_texts[:num_rows]
        self.scorers.extend([scorer] * len(texts))
        self.texts.extend(texts)
        self.expected.extend(scorer.artifact.golden_logits[:num_rows].numpy())
