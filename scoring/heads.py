"""From features to levels: the stacked heads of all loaded scorers, and the decision on their logits.

Knows neither text nor adapters; a head is a slot number here, a trait a slice of logits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from scoring.bank import SlotPool
from scoring.errors import IncompatibleArtifactError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from scoring.types import Decision

#: Rows gathered at once, so that wide head banks stay small in memory.
_CHUNK_ROWS = 1024


class HeadBank:
    """Linear heads of any width: weights [slot, max_width, hidden] and biases [slot, max_width]."""

    def __init__(self, hidden_size: int, *, device: torch.device) -> None:
        self._pool = SlotPool()
        self._weight = torch.zeros(0, 0, hidden_size, device=device)
        self._bias = torch.zeros(0, 0, device=device)

    def add(self, weight: Tensor, bias: Tensor) -> int:
        """Put a head into a free slot and return the slot.

        Args:
            weight: [num_logits, hidden]
            bias: [num_logits]

        Raises:
            IncompatibleArtifactError: the head was made for features of another width.
        """
        width, hidden = weight.shape
        if hidden != self._weight.shape[2]:
            raise IncompatibleArtifactError(
                f"head: takes features of width {hidden}, the backbone gives {self._weight.shape[2]}"
            )
        slot = self._pool.take()
        self._reserve(slot + 1, width)
        self._weight[slot, :width], self._bias[slot, :width] = weight, bias
        return slot

    def remove(self, slot: int) -> None:
        """Free a head's slot."""
        self._pool.give_back(slot)

    def logits(self, features: Tensor, row_of: NDArray[np.intp], slots: Sequence[int]) -> NDArray[np.float32]:
        """Each answer's features through its own head; columns beyond the head's width hold nothing of use.

        Args:
            features: [num_rows, hidden]
            row_of: the row of each answer [num_answers]
            slots: the head of each answer [num_answers]

        Returns:
            [num_answers, max_width]
        """
        logits = np.zeros((len(slots), self._weight.shape[1]), dtype=np.float32)
        rows = torch.from_numpy(row_of).to(features.device)
        heads = torch.tensor(slots, dtype=torch.long, device=features.device)
        for start in range(0, len(slots), _CHUNK_ROWS):
            part = slice(start, start + _CHUNK_ROWS)
            # Multiply and sum rather than a matrix product: each answer's sum then runs in one fixed order,
            # whatever stands beside it.
            products = self._weight[heads[part]] * features[rows[part]].unsqueeze(1)
            logits[part] = (products.sum(-1) + self._bias[heads[part]]).cpu().numpy()
        return logits

    def _reserve(self, num_slots: int, width: int) -> None:
        slots, widths, hidden = self._weight.shape
        if num_slots <= slots and width <= widths:
            return
        if num_slots > slots:
            num_slots = max(num_slots, 2 * slots)
        weight, bias = self._weight, self._bias
        shape = max(num_slots, slots), max(width, widths)
        self._weight = weight.new_zeros(*shape, hidden)
        self._bias = bias.new_zeros(*shape)
        self._weight[:slots, :widths] = weight
        self._bias[:slots, :widths] = bias


@dataclass(frozen=True, slots=True)
class Decided:
    """One trait decided for a number of answers.

    Attributes:
        level: [num_answers]
        probabilities: calibrated, each row sums to one [num_answers, num_levels]
        confidence: calibrated probability of the decided level [num_answers]
        needs_review: [num_answers]
    """

    level: NDArray[np.int16]
    probabilities: NDArray[np.float64]
    confidence: NDArray[np.float32]
    needs_review: NDArray[np.bool_]


def decide(logits: NDArray[np.floating], decision: Decision) -> Decided:
    """Turn one trait's logits into levels.

    Probabilities are softmax(logits / temperature). The level is the most likely one or, with cut points,
    the number of cut points that the expected level sum_k k p_k reaches.

    Args:
        logits: [num_answers, num_levels]
        decision: temperature, cut points and review threshold of the trait
    """
    scaled = logits.astype(np.float64) / decision.temperature
    scaled -= scaled.max(axis=1, keepdims=True)
    odds = np.exp(scaled)
    probabilities = odds / odds.sum(axis=1, keepdims=True)
    if decision.cut_points:
        expected = probabilities @ np.arange(probabilities.shape[1])
        level = np.searchsorted(np.asarray(decision.cut_points), expected, side="right")
    else:
        level = probabilities.argmax(axis=1)
    confidence = np.take_along_axis(probabilities, level[:, None], axis=1)[:, 0].astype(np.float32)
    # Turned around, so that NaN goes to a reader too.
    needs_review = ~(confidence >= np.float32(decision.review_below))
    return Decided(level.astype(np.int16), probabilities, confidence, needs_review)
