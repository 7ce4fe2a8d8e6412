"""Two ways to lay a batch's tokens out, and what depends on them: positions, attention, LoRA, pooling.

Packed (CPU): tokens of all rows end to end without padding, attention in groups of equal length, LoRA per
contiguous run of one adapter. Padded (CUDA, and encoders run by transformers): [rows, longest], a mask, LoRA
gathered per row, so that the number of launches does not grow with the number of adapters.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

    from scoring.bank import AdapterBank
    from scoring.engines.rows import Rows

#: Below so many rows of a matrix some processors sum a product in another order.
_MIN_SHARED_LENGTH = 8
#: A packed batch is filled up to a multiple of so many tokens: oneDNN compiles and keeps code for every
#: number of rows that it meets, a tenth of a megabyte each.
_FILL_STEP = 16
#: What an encoder adds to attention scores: length -> [1, heads, length, length].
Bias = Callable[[int], "Tensor"]


class Layout(Protocol):
    """Where a batch's tokens lie; `...` below is [tokens] when packed, [rows, longest] when padded."""

    token_ids: Tensor
    #: Place of each token in its row, from 0 [...]
    positions: Tensor

    def adapt(self, site: str, x: Tensor, out: Tensor) -> None:
        """Add each row's B A x to the site's output in place: x [..., in], out [..., out]."""

    def attend(self, qkv: Tensor, num_heads: int, bias: Bias | None) -> Tensor:
        """Self-attention inside each row: [..., 3 * hidden] -> [..., hidden]."""

    def pool(self, states: Tensor) -> Tensor:
        """One feature a row, mean or first token as the row asks: [..., hidden] -> [num_rows, hidden]."""


class PackedLayout:
    """Tokens end to end, fillers after the last that no row reads; rows must come sorted by length."""

    def __init__(self, rows: Rows, bank: AdapterBank, device: torch.device) -> None:
        lengths = rows.lengths.tolist()
        self._bank = bank
        self._is_cls = rows.is_cls.tolist()
        self._groups = [(length, len(list(group))) for length, group in groupby(lengths)]
        self._runs = _runs(lengths, rows.slots.tolist())
        self._sizes = [run.length * run.num_rows for run in self._runs]
        flat = [token for ids in rows.token_ids for token in ids]
        num_fillers = -len(flat) % _FILL_STEP
        self._sizes.append(num_fillers)
        fillers = [0] * num_fillers
        self.token_ids = torch.tensor(flat + fillers, device=device)
        self.positions = torch.cat(
            [
                *(torch.arange(length, device=device).repeat(num_rows) for length, num_rows in self._groups),
                torch.tensor(fillers, dtype=torch.long, device=device),
            ]
        )

    def adapt(self, site: str, x: Tensor, out: Tensor) -> None:
        """Add B A x run by run.

        A run's rows go through A as a batch of equal matrices, through B all at once: either way each row's
        product is the same bit for bit, however many rows the run has.
        """
        views = self._bank.views(site)
        if not views:
            return
        parts = zip(torch.split(x, self._sizes), torch.split(out, self._sizes), strict=True)
        # Fillers come last and have no run.
        for run, (own, target) in zip(self._runs, parts, strict=False):
            view = views.get(run.slot)
            if view is None:
                continue
            num_blocks, rank, width = view.b.shape
            rows = own.view(run.num_rows, run.length, -1)
            inner = torch.bmm(rows, view.a.expand(run.num_rows, *view.a.shape)).view(-1, num_blocks, rank)
            blocks = target.view(len(target), -1, width)[:, view.blocks]
            blocks.transpose(0, 1).baddbmm_(inner.transpose(0, 1), view.b)

    def attend(self, qkv: Tensor, num_heads: int, bias: Bias | None) -> Tensor:
        """Attention group by group of equal length, so that no mask is needed."""
        hidden = qkv.shape[1] // 3
        parts, start = [], 0
        for length, num_rows in self._groups:
            end = start + length * num_rows
            heads = qkv[start:end].view(num_rows, length, 3, num_heads, -1).permute(2, 0, 3, 1, 4)
            mask = None if bias is None else bias(length)
            mixed = functional.scaled_dot_product_attention(heads[0], heads[1], heads[2], attn_mask=mask)
            parts.append(mixed.transpose(1, 2).reshape(-1, hidden))
            start = end
        if start < len(qkv):
            parts.append(qkv[start:, :hidden])
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def pool(self, states: Tensor) -> Tensor:
        """Mean over a row's tokens, or its first token."""
        parts, start = [], 0
        for length, num_rows in self._groups:
            end = start + length * num_rows
            tokens = states[start:end].view(num_rows, length, -1)
            parts.append((tokens.mean(1), tokens[:, 0]))
            start = end
        mean, first = (torch.cat(part) for part in zip(*parts, strict=True))
        return _choose(mean, first, self._is_cls)


class PaddedLayout:
    """Tokens in a rectangle with a mask."""

    def __init__(self, rows: Rows, bank: AdapterBank, device: torch.device, *, pad_id: int) -> None:
        lengths = torch.from_numpy(rows.lengths)
        longest = int(lengths.max())
        padded = [ids + [pad_id] * (longest - len(ids)) for ids in rows.token_ids]
        self._bank = bank
        self._is_cls = rows.is_cls.tolist()
        self._slots = torch.from_numpy(rows.slots).to(device)
        self._is_adapted = bool(rows.slots.any())
        self.token_ids = torch.tensor(padded, device=device)
        self.positions = torch.arange(longest, device=device).expand(len(rows), longest)
        #: Whether a token is none of the padding [rows, longest]
        self.mask = self.positions < lengths.to(device).unsqueeze(1)

    def adapt(self, site: str, x: Tensor, out: Tensor) -> None:
        """Add B A x with each row's own matrices gathered from the bank."""
        stacked = self._bank.stacked(site) if self._is_adapted else None
        if stacked is not None:
            a, b = stacked[0][self._slots], stacked[1][self._slots]
            out += torch.bmm(torch.bmm(x, a.transpose(1, 2)), b)

    def attend(self, qkv: Tensor, num_heads: int, bias: Bias | None) -> Tensor:
        """Attention over the whole rectangle, padding masked."""
        num_rows, longest, width = qkv.shape
        heads = qkv.view(num_rows, longest, 3, num_heads, -1).permute(2, 0, 3, 1, 4)
        mask = self.mask[:, None, None, :]
        if bias is not None:
            mask = bias(longest).masked_fill(~mask, float("-inf"))
        mixed = functional.scaled_dot_product_attention(heads[0], heads[1], heads[2], attn_mask=mask)
        return mixed.transpose(1, 2).reshape(num_rows, longest, width // 3)

    def pool(self, states: Tensor) -> Tensor:
        """Mean over a row's tokens without the padding, or its first token."""
        weights = self.mask.unsqueeze(-1).to(states.dtype)
        mean = (states * weights).sum(1) / weights.sum(1)
        return _choose(mean, states[:, 0], self._is_cls)


class _Run(NamedTuple):
    """Contiguous rows of one length and one adapter; slot 0 has none."""

    slot: int
    length: int
    num_rows: int


def _runs(lengths: list[int], slots: list[int]) -> list[_Run]:
    """All rows as runs, in order; very short rows each by themselves, and with several threads every row."""
    runs = []
    # Threads divide a product by its size: what a row's part of it is would depend on the others.
    is_alone = torch.get_num_threads() == 1
    for (length, slot), group in groupby(zip(lengths, slots, strict=True)):
        num_rows = len(list(group))
        is_whole = is_alone and length >= _MIN_SHARED_LENGTH
        runs += [_Run(slot, length, num_rows)] if is_whole else [_Run(slot, length, 1)] * num_rows
    return runs


def _choose(mean: Tensor, first: Tensor, is_cls: list[bool]) -> Tensor:
    if not any(is_cls):
        return mean
    return torch.where(torch.tensor(is_cls, device=mean.device).unsqueeze(1), first, mean)
