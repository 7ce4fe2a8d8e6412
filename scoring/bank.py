"""The bank: all loaded LoRA adapters stacked per linear layer, as data rather than modules.

An adapter's pairs of matrices come in and a slot number goes out; slot 0 stands for "no adapter". Knows
neither items nor texts nor what kind of encoder the linear layers belong to.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

import torch

from scoring.errors import IncompatibleArtifactError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor


class SlotPool:
    """Slot numbers from 1 on; the smallest free one goes out first, so that a bank stays dense."""

    def __init__(self) -> None:
        self._free: list[int] = []
        self._taken: set[int] = set()
        self._end = 1

    @property
    def num_slots(self) -> int:
        """One more than the highest slot ever in use, slot 0 counted."""
        return self._end

    def take(self) -> int:
        """A free slot, which is then taken."""
        if self._free:
            slot = heapq.heappop(self._free)
        else:
            slot, self._end = self._end, self._end + 1
        self._taken.add(slot)
        return slot

    def give_back(self, slot: int) -> None:
        """Free a taken slot.

        Raises:
            KeyError: the slot is not taken.
        """
        self._taken.remove(slot)
        heapq.heappush(self._free, slot)


class AdapterBank:
    """LoRA weights of many adapters: per linear layer A [slot, rank, in] and B [slot, out, rank].

    The scaling alpha / rank is folded into B; smaller ranks are padded with zeros; storage doubles when full.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, int]], *, device: torch.device) -> None:
        """Make an empty bank.

        Args:
            shapes: path of each linear layer that can be adapted -> (in, out)
            device: where the stacked matrices live
        """
        self._shapes = dict(shapes)
        self._device = device
        self._pool = SlotPool()
        self._stacks: dict[str, _Stack] = {}
        self._modules: dict[int, tuple[str, ...]] = {}

    def add(self, pairs: Mapping[str, tuple[Tensor, Tensor]], *, scale: float) -> int:
        """Put an adapter into a free slot and return the slot; 0 when it adapts nothing.

        Args:
            pairs: path of a linear layer in the encoder -> (A [rank, in], B [out, rank])
            scale: alpha / rank

        Raises:
            IncompatibleArtifactError: the encoder has no such layer, or one of another shape. Nothing is
                changed then.
        """
        for module, (a, b) in pairs.items():
            self._check(module, a, b)
        if not pairs:
            return 0
        slot = self._pool.take()
        self._modules[slot] = tuple(pairs)
        for module, (a, b) in pairs.items():
            if module not in self._stacks:
                self._stacks[module] = _Stack(*self._shapes[module], device=self._device)
            self._stacks[module].put(slot, a, b * scale)
        return slot

    def remove(self, slot: int) -> None:
        """Free an adapter's slot; slot 0 stays."""
        if slot == 0:
            return
        for module in self._modules.pop(slot):
            self._stacks[module].clear(slot)
        self._pool.give_back(slot)

    def views(self, module: str) -> Mapping[int, tuple[Tensor, Tensor]]:
        """Slot -> (A^T [in, rank], B^T [rank, out]) at the adapter's own rank, for one run of rows each."""
        stack = self._stacks.get(module)
        return stack.views if stack else {}

    def stacked(self, module: str) -> tuple[Tensor, Tensor] | None:
        """A [slot, rank, in] and B [slot, out, rank], to be gathered by any slot; None: nothing adapts it."""
        stack = self._stacks.get(module)
        if stack is None or not stack.views:
            return None
        stack.reserve(self._pool.num_slots, rank=1)
        return stack.a, stack.b

    def _check(self, module: str, a: Tensor, b: Tensor) -> None:
        shape = self._shapes.get(module)
        if shape is None:
            raise IncompatibleArtifactError(f"adapter: the backbone has no linear layer {module}")
        if (a.shape[1], b.shape[0]) != shape:
            raise IncompatibleArtifactError(
                f"adapter: {module} maps {a.shape[1]} to {b.shape[0]}, "
                f"the backbone's layer {shape[0]} to {shape[1]}"
            )


class _Stack:
    """One linear layer's share of the bank."""

    def __init__(self, num_in: int, num_out: int, *, device: torch.device) -> None:
        self.a = torch.zeros(0, 0, num_in, device=device)
        self.b = torch.zeros(0, num_out, 0, device=device)
        self.views: dict[int, tuple[Tensor, Tensor]] = {}

    def put(self, slot: int, a: Tensor, b: Tensor) -> None:
        rank = a.shape[0]
        self.reserve(slot + 1, rank=rank)
        self.a[slot, :rank] = a
        self.b[slot, :, :rank] = b
        self.views[slot] = self._view(slot, rank)

    def clear(self, slot: int) -> None:
        # Zeros, so that a later adapter of smaller rank, or one without this layer, finds nothing left.
        self.a[slot] = 0
        self.b[slot] = 0
        del self.views[slot]

    def reserve(self, num_slots: int, *, rank: int) -> None:
        slots, ranks = self.a.shape[0], self.a.shape[1]
        if num_slots <= slots and rank <= ranks:
            return
        if num_slots > slots:
            num_slots = max(num_slots, 2 * slots)
        a, b = self.a, self.b
        shape = max(num_slots, slots), max(rank, ranks)
        self.a = a.new_zeros(*shape, a.shape[2])
        self.b = b.new_zeros(shape[0], b.shape[1], shape[1])
        self.a[:slots, :ranks] = a
        self.b[:slots, :, :ranks] = b
        self.views = {slot: self._view(slot, view[0].shape[1]) for slot, view in self.views.items()}

    def _view(self, slot: int, rank: int) -> tuple[Tensor, Tensor]:
        return self.a[slot, :rank].t(), self.b[slot, :, :rank].t()
