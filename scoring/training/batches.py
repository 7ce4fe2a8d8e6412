"""Token ids cut into padded batches of about equal length; knows no level and no model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

#: Lengths this close are shuffled among each other, so that batches differ between epochs.
_LENGTH_JITTER = 2.0


def shuffled_batches(
    lengths: NDArray[np.int64], batch_size: int, *, rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Every index once, in batches of about equal length, batches in random order.

    Args:
        lengths: number of tokens of each answer [num_answers]
        batch_size: answers in a batch; the last one cut may be smaller.
        rng: the source of all randomness here.
    """
    order = np.argsort(lengths + rng.uniform(0, _LENGTH_JITTER, size=len(lengths)))
    batches = _cut(order, batch_size)
    rng.shuffle(batches)
    return batches


def sorted_batches(lengths: NDArray[np.int64], batch_size: int) -> list[NDArray[np.int64]]:
    """Every index once, shortest answers first."""
    return _cut(np.argsort(lengths, kind="stable"), batch_size)


def padded(token_ids: Sequence[Sequence[int]], *, pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and attention mask as rectangles, both [batch, max_tokens], int64."""
    rows = [torch.tensor(ids) for ids in token_ids]
    ids = pad_sequence(rows, batch_first=True, padding_value=pad_id)
    mask = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
    return ids, mask


def _cut(order: NDArray[np.int64], batch_size: int) -> list[NDArray[np.int64]]:
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
