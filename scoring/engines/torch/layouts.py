"""Two ways to lay a batch's tokens out, and what depends on them: positions, attention, LoRA, pooling.

Packed (CPU): tokens of all rows end to end without padding, attention in groups of equal length, LoRA row by
row. Padded (CUDA, and encoders run by transformers): [rows, longest], a mask, LoRA gathered per row, so that
the number of launches does not grow with the number of adapters.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

    from scoring.bank import AdapterBank
    from scoring.engines.rows import Rows

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
        ends = np.cumsum(rows.lengths).tolist()
        self._spans = list(zip([0, *ends[:-1]], ends, rows.slots.tolist(), strict=True))
        flat = [token for ids in rows.token_ids for token in ids]
        fillers = [0] * (-len(flat) % _FILL_STEP)
        self.token_ids = torch.tensor(flat + fillers, device=device)
        self.positions = torch.cat(
            [
                *(torch.arange(length, device=device).repeat(num_rows) for length, num_rows in self._groups),
                torch.tensor(fillers, dtype=torch.long, device=device),
            ]
        )

    def adapt(self, site: str, x: Tensor, out: Tensor) -> None:
        """Add B A x row by row, each by itself, so that it is the same bit for bit in any company.

        By numpy: its BLAS takes half the time of torch's for products of eight columns, calls included.
        """
        views = self._bank.views(site)
        if not views:
            return
        tokens, outputs = x.numpy(), out.numpy()
        for start, end, slot in self._spans:
            if (view := views.get(slot)) is not None:
                row = outputs[start:end]
                row += tokens[start:end].dot(view.a).dot(view.b)

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


def _choose(mean: Tensor, first: Tensor, is_cls: list[bool]) -> Tensor:
    if not any(is_cls):
        return mean
    return torch.where(torch.tensor(is_cls, device=mean.device).unsqueeze(1), first, mean)
