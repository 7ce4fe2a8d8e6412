"""A frozen linear layer of the encoder, behind one small class so that its arithmetic can be exchanged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn


class FrozenLinear:
    """W x + b in fp32, of one layer or of several layers that read the same input."""

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        self._weight = torch.cat([layer.weight.detach() for layer in layers])
        self._bias = torch.cat([layer.bias.detach() for layer in layers])

    def __call__(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out of all layers side by side]."""
        return functional.linear(x, self._weight, self._bias)
