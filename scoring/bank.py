"""The bank: all loaded LoRA adapters stacked per site of the encoder, as data rather than modules.

A site is a linear layer, or several that read the same input and write side by side. An adapter's pairs of
matrices come in and a slot number goes out; slot 0 stands for "no adapter". Knows neither items nor texts nor
what kind of encoder the sites belong to.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch

from scoring.errors import IncompatibleArtifactError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray
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

    @property
    def next(self) -> int:
        """The slot that would be taken."""
        return self._free[0] if self._free else self._end

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


@dataclass(frozen=True, slots=True)
class Site:
    """Linear layers that read the same input, their outputs side by side in this order.

    Attributes:
        num_in: width of the input
        widths: path of each layer in the encoder -> width of its output
    """

    num_in: int
    widths: Mapping[str, int]

    @property
    def num_out(self) -> int:
        """Width of all outputs together."""
        return sum(self.widths.values())

    def offset(self, path: str) -> int:
        """First column of this layer's output."""
        before = list(self.widths).index(path)
        return sum(list(self.widths.values())[:before])


class AdapterView(NamedTuple):
    """One adapter on one site at its own rank, as it stands in the bank: no copy.

    Attributes:
        a: A^T of all adapted layers side by side [in, rank]
        b: B^T [rank, out]
    """

    a: NDArray[np.float32]
    b: NDArray[np.float32]


class AdapterBank:
    """LoRA weights of many adapters: per site A [slot, rank, in] and B^T [slot, rank, out].

    The layers of a site are adapted in one go: their ranks stand one after the other, and B is zero where one
    layer's rank meets another's output. The scaling alpha / rank is folded into B; smaller ranks are padded
    with zeros; storage doubles when full, or grows slot by slot where it has a limit.
    """

    def __init__(
        self, sites: Mapping[str, Site], *, device: torch.device, max_bytes: int | None = None
    ) -> None:
        """Make an empty bank.

        Args:
            sites: everything that can be adapted, by name
            device: where the stacked matrices live
            max_bytes: what `fits` goes by; None: everything fits
        """
        self.max_bytes = max_bytes
        self._sites = dict(sites)
        self._site_of = {path: name for name, site in sites.items() for path in site.widths}
        self._device = device
        self._pool = SlotPool()
        self._stacks: dict[str, _Stack] = {}
        self._used: dict[int, tuple[str, ...]] = {}

    def add(self, pairs: Mapping[str, tuple[Tensor, Tensor]], *, scale: float) -> int:
        """Put an adapter into a free slot and return the slot; 0 when it adapts nothing.

        Args:
            pairs: path of a linear layer in the encoder -> (A [rank, in], B [out, rank])
            scale: alpha / rank

        Raises:
            IncompatibleArtifactError: the encoder has no such layer, or one of another shape. Nothing is
                changed then.
        """
        by_site: dict[str, dict[str, tuple[Tensor, Tensor]]] = {}
        for path, (a, b) in pairs.items():
            self._check(path, a, b)
            by_site.setdefault(self._site_of[path], {})[path] = (a, b * scale)
        if not pairs:
            return 0
        slot = self._pool.take()
        self._used[slot] = tuple(by_site)
        for name, own in by_site.items():
            site = self._sites[name]
            if name not in self._stacks:
                may_double = self.max_bytes is None
                self._stacks[name] = _Stack(
                    site.num_in, site.num_out, device=self._device, may_double=may_double
                )
            in_order = {path: own[path] for path in site.widths if path in own}
            self._stacks[name].put(slot, *joined(site, in_order))
        return slot

    def remove(self, slot: int) -> None:
        """Free an adapter's slot; slot 0 stays."""
        if slot == 0:
            return
        for name in self._used.pop(slot):
            self._stacks[name].clear(slot)
        self._pool.give_back(slot)

    def views(self, name: str) -> Mapping[int, AdapterView]:
        """Slot -> matrices at the adapter's own rank, for one row after the other; CPU only."""
        stack = self._stacks.get(name)
        return stack.views if stack else {}

    def stacked(self, name: str) -> tuple[Tensor, Tensor] | None:
        """A [slot, rank, in] and B^T [slot, rank, out], to gather by any slot; None: nothing adapts it."""
        stack = self._stacks.get(name)
        if stack is None or not stack.ranks:
            return None
        stack.reserve(self._pool.num_slots, rank=1)
        return stack.a, stack.b

    def nothing(self, name: str) -> tuple[Tensor, Tensor]:
        """What `stacked` would give if every slot were empty."""
        site, slots = self._sites[name], self._pool.num_slots
        return (
            torch.zeros(slots, 1, site.num_in, device=self._device),
            torch.zeros(slots, 1, site.num_out, device=self._device),
        )

    def adapted(self) -> frozenset[str]:
        """The sites that some adapter touches."""
        return frozenset(name for name, stack in self._stacks.items() if stack.ranks)

    @property
    def num_bytes(self) -> int:
        """Memory of all stacks, free slots included."""
        # A list, since metrics ask from another thread while stacks come.
        return sum(stack.a.nbytes + stack.b.nbytes for stack in list(self._stacks.values()))

    def bytes_of(self, pairs: Mapping[str, tuple[Tensor, Tensor]]) -> int:
        """What an adapter takes in its slot, where its rank is the greatest of all."""
        ranks = self._ranks(pairs)
        return sum(4 * rank * _width(self._sites[name]) for name, rank in ranks.items())

    def fits(self, pairs: Mapping[str, tuple[Tensor, Tensor]]) -> bool:
        """Whether the bank with this adapter added would stay within its limit."""
        if self.max_bytes is None:
            return True
        slot, ranks = self._pool.next, self._ranks(pairs)
        grown = 0
        for name in self._stacks.keys() | ranks.keys():
            slots, rank = self._stacks[name].a.shape[:2] if name in self._stacks else (0, 0)
            if name in ranks:
                slots, rank = max(slots, slot + 1), max(rank, ranks[name])
            grown += 4 * slots * rank * _width(self._sites[name])
        return grown <= self.max_bytes

    def _ranks(self, pairs: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, int]:
        ranks: dict[str, int] = {}
        for path, (a, _) in pairs.items():
            name = self._site_of.get(path)
            if name is not None:  # `add` refuses such a path
                ranks[name] = ranks.get(name, 0) + a.shape[0]
        return ranks

    def _check(self, path: str, a: Tensor, b: Tensor) -> None:
        name = self._site_of.get(path)
        if name is None:
            raise IncompatibleArtifactError(f"adapter: the backbone has no linear layer {path}")
        shape = self._sites[name].num_in, self._sites[name].widths[path]
        if (a.shape[1], b.shape[0]) != shape:
            raise IncompatibleArtifactError(
                f"adapter: {path} maps {a.shape[1]} to {b.shape[0]}, "
                f"the backbone's layer {shape[0]} to {shape[1]}"
            )


def joined(site: Site, pairs: Mapping[str, tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """One A [ranks, in] and B^T [ranks, out] that act on the whole site as the pairs do on its layers."""
    rows, blocks = [], []
    for path, (a, b) in pairs.items():
        first = site.offset(path)
        block = b.new_zeros(b.shape[1], site.num_out)
        block[:, first : first + b.shape[0]] = b.t()
        rows.append(a)
        blocks.append(block)
    return torch.cat(rows), torch.cat(blocks)


class _Stack:
    """One site's share of the bank."""

    def __init__(self, num_in: int, num_out: int, *, device: torch.device, may_double: bool) -> None:
        self._may_double = may_double
        self.ranks: dict[int, int] = {}
        self.a = torch.zeros(0, 0, num_in, device=device)
        self.b = torch.zeros(0, 0, num_out, device=device)
        self.views: dict[int, AdapterView] = {}

    def put(self, slot: int, a: Tensor, b: Tensor) -> None:
        rank = a.shape[0]
        self.reserve(slot + 1, rank=rank)
        self.a[slot, :rank] = a
        self.b[slot, :rank] = b
        self.ranks[slot] = rank
        self._view(slot)

    def clear(self, slot: int) -> None:
        # Zeros, so that a later adapter of smaller rank, or one without this site, finds nothing left.
        self.a[slot] = 0
        self.b[slot] = 0
        del self.ranks[slot]
        self.views.pop(slot, None)

    def reserve(self, num_slots: int, *, rank: int) -> None:
        slots, ranks = self.a.shape[0], self.a.shape[1]
        if num_slots <= slots and rank <= ranks:
            return
        if num_slots > slots and self._may_double:
            num_slots = max(num_slots, 2 * slots)
        shape = max(num_slots, slots), max(rank, ranks)
        self.a, self.b = (_grown(stack, *shape) for stack in (self.a, self.b))
        for slot in self.ranks:
            self._view(slot)

    def _view(self, slot: int) -> None:
        if self.a.device.type == "cpu":
            a, b = (stack[slot, : self.ranks[slot]].numpy() for stack in (self.a, self.b))
            self.views[slot] = AdapterView(a.T, b)


def _width(site: Site) -> int:
    """Numbers in one rank of a site's A and B."""
    return site.num_in + site.num_out


def _grown(stack: Tensor, num_slots: int, rank: int) -> Tensor:
    slots, ranks, width = stack.shape
    grown = stack.new_zeros(num_slots, rank, width)
    grown[:slots, :ranks] = stack
    return grown
