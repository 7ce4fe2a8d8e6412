"""From requests to rows and batches: duplicates collapsed, texts tokenised, rows sorted and cut.

Shared by all engines; knows slots and token ids, but neither weights nor devices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from scoring.backbone import Backbone
    from scoring.config import Pooling


class Reading(NamedTuple):
    """How a scorer turns a text into a feature; scorers that share it share the computation."""

    slot: int
    max_tokens: int
    pooling: Pooling
    is_int8: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Distinct texts to encode, column by column.

    Attributes:
        token_ids: special tokens included, unpadded [num_rows][tokens]
        slots: adapter slot of each row [num_rows]
        is_cls: whether a row's feature is its first token's state rather than the mean [num_rows]
        lengths: tokens of each row [num_rows]
        is_int8: whether a row's linear layers run in int8 [num_rows]
    """

    token_ids: list[list[int]]
    slots: NDArray[np.intp]
    is_cls: NDArray[np.bool_]
    lengths: NDArray[np.intp]
    is_int8: NDArray[np.bool_]

    @classmethod
    def of(cls, pairs: Sequence[tuple[Reading, Sequence[int]]]) -> Rows:
        """Rows in this order, each of a reading and its token ids."""
        return cls(
            token_ids=[list(ids) for _, ids in pairs],
            slots=np.array([reading.slot for reading, _ in pairs], dtype=np.intp),
            is_cls=np.array([reading.pooling == "cls" for reading, _ in pairs], dtype=np.bool_),
            lengths=np.array([len(ids) for _, ids in pairs], dtype=np.intp),
            is_int8=np.array([reading.is_int8 for reading, _ in pairs], dtype=np.bool_),
        )

    def __len__(self) -> int:
        return len(self.token_ids)

    def take(self, indices: NDArray[np.intp]) -> Rows:
        """The rows at these indices, in this order."""
        ids = [self.token_ids[index] for index in indices]
        return Rows(
            ids, self.slots[indices], self.is_cls[indices], self.lengths[indices], self.is_int8[indices]
        )


def tokenise(texts: Sequence[str], max_tokens: Sequence[int], backbone: Backbone) -> list[tuple[int, ...]]:
    """Token ids of each normalised text, cut to its limit; equal texts are read once [num_texts][tokens]."""
    found: dict[tuple[int, str], tuple[int, ...]] = {}
    for limit in sorted(set(max_tokens)):
        own = list(dict.fromkeys(text for text, one in zip(texts, max_tokens, strict=True) if one == limit))
        rows = zip(own, backbone.encode(own, limit), strict=True)
        found |= {(limit, text): tuple(ids) for text, ids in rows}
    return [found[pair] for pair in zip(max_tokens, texts, strict=True)]


def collapse(
    readings: Sequence[Reading], token_ids: Sequence[tuple[int, ...]]
) -> tuple[Rows, NDArray[np.intp]]:
    """A row for each distinct pair of reading and tokens; for each answer its row [num_answers]."""
    index_of: dict[tuple[Reading, tuple[int, ...]], int] = {}
    row_of = np.fromiter(
        (index_of.setdefault(pair, len(index_of)) for pair in zip(readings, token_ids, strict=True)),
        dtype=np.intp,
        count=len(token_ids),
    )
    return Rows.of(list(index_of)), row_of


def cut(rows: Rows, max_batch_tokens: int, *, equal_lengths: bool = False) -> Iterator[NDArray[np.intp]]:
    """Indices of the rows of each batch, sorted by precision, by length and then by adapter.

    A batch has one precision, and one length where that is asked for. Rows times the longest row stays within
    `max_batch_tokens`; a longer single row is a batch of its own.
    """
    order = np.lexsort((rows.slots, rows.lengths, rows.is_int8))
    lengths, is_int8 = rows.lengths[order].tolist(), rows.is_int8[order].tolist()
    start = 0
    for end in range(1, len(order) + 1):
        full = (
            end == len(order)
            or (end + 1 - start) * lengths[end] > max_batch_tokens
            or is_int8[end] != is_int8[start]
            or (equal_lengths and lengths[end] != lengths[start])
        )
        if full:
            yield order[start:end]
            start = end
