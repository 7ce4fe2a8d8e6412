"""A frozen linear layer of the encoder in three arithmetics, each row's result independent of all others.

Knows weights and rows; knows neither adapters nor what the rows stand for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn


class FrozenLinear(Protocol):
    """W x + b of one layer, or of several layers that read the same input."""

    def __call__(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out of all layers side by side], a new tensor."""


class DenseLinear:
    """fp32 by torch's own matrix product: any device."""

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        self._weight, self._bias = stacked(layers)

    def __call__(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        return functional.linear(x, self._weight, self._bias)


class PackedLinear:
    """fp32 by oneDNN with weights packed once: CPU only.

    A row comes out bit for bit the same whatever stands beside it, and on some processors 1.4 times sooner
    than from `DenseLinear`.
    """

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        weight, self._bias = stacked(layers)
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight, None)

    def __call__(self, x: Tensor) -> Tensor:
        """[rows, in] -> [rows, out]."""
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._packed, self._bias, "none", [], "")
        return out


@dataclass(frozen=True, slots=True, eq=False)
class InputRange:
    """Where the inputs of a linear layer lie.

    Attributes:
        swing: how far each channel moves about its zero [in]
        zero: what is taken from each channel: its middle, or its floor [in]
        is_floor: whether no input falls below `zero`
    """

    swing: Tensor
    zero: Tensor
    is_floor: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class QuantisedWeight:
    """A weight in int8 and how an input is brought to eight bits for it.

    Attributes:
        integers: int8 [out, in]
        scale: what one step of an output's integers is worth [out]
        unsmooth: factor of each input channel [in]
        lift: added to the input after that [in]
        shift: what the lift adds to the outputs, to be taken away [out]
        zero_point: what stands for 0 after rounding
        num_steps: from there to the furthest value of a row
    """

    integers: Tensor
    scale: Tensor
    unsmooth: Tensor
    lift: Tensor
    shift: Tensor
    zero_point: int
    num_steps: int


class Int8Linear:
    """int8 weights per output channel, 8-bit activations per row; CPU only.

    y = s_x s_w (q_x q_w) + W z + b, where q_x = round((x - z) / (m s_x)) and s_x = max|(x - z) / m| / 127 of
    each row by itself. z is the middle of each channel (Outlier Suppression+, Wei et al., 2023), and m moves
    the spread of channels from activations into weights (SmoothQuant, Xiao et al., 2023):
    m_j = swing_j^1/2 / max|w_j|^1/2. Inputs with a floor have it for z, so that all 256 steps lie where
    values can be. The product of integers is exact, so that a row comes out bit for bit the same in any
    company.
    """

    def __init__(self, layers: Sequence[nn.Linear], input_range: InputRange) -> None:
        """Quantise the weights.

        Args:
            layers: as for the others
            input_range: of the layers' common input
        """
        weight, bias = stacked(layers)
        found = quantise(weight, input_range)
        self._scale, self._unsmooth, self._lift = found.scale, found.unsmooth, found.lift
        self._zero_point, self._num_steps = found.zero_point, found.num_steps
        self._bias = bias - found.shift
        self._no_offset = torch.zeros(len(weight), dtype=torch.int32)
        self._packed = torch.ops.onednn.qlinear_prepack(found.integers, None)

    def __call__(self, x: Tensor) -> Tensor:
        """[rows, in] -> [rows, out]."""
        y = torch.addcmul(self._lift, x, self._unsmooth)
        furthest = y.amax(1, keepdim=True)
        if self._zero_point:
            # Two passes, for the greatest and the least, are quicker than one for the absolute value.
            furthest = torch.maximum(furthest, -y.amin(1, keepdim=True))
        scale = furthest.clamp_(min=1e-9).div_(self._num_steps)
        # Truncation of what is positive rounds to the nearest when a half is added beforehand. By way of
        # int16, because torch turns floats into uint8 one by one, which takes five times as long.
        quantised = y.mul_(scale.reciprocal()).add_(self._zero_point + 0.5).to(torch.int16).to(torch.uint8)
        out: Tensor = torch.ops.onednn.qlinear_pointwise(
            quantised,
            1.0,
            self._zero_point,
            self._packed,
            self._scale,
            self._no_offset,
            None,
            1.0,
            0,
            torch.float32,
            "none",
            [],
            "",
        )
        return out.mul_(scale).add_(self._bias)


def quantise(weight: Tensor, input_range: InputRange) -> QuantisedWeight:
    """A weight [out, in] as `Int8Linear` holds it."""
    smooth = (input_range.swing.clamp(min=1e-4) / weight.abs().amax(0).clamp(min=1e-4)).sqrt()
    weight = weight * smooth
    scale = (weight.abs().amax(1) / 127).clamp(min=1e-12)
    integers = torch.round(weight / scale[:, None])
    unsmooth = 1 / smooth
    lift = -input_range.zero * unsmooth
    return QuantisedWeight(
        integers=integers.to(torch.int8),
        scale=scale,
        unsmooth=unsmooth,
        lift=lift,
        shift=(integers @ lift) * scale,
        # oneDNN's fast kernels want unsigned activations.
        zero_point=0 if input_range.is_floor else 128,
        num_steps=255 if input_range.is_floor else 127,
    )


def stacked(layers: Sequence[nn.Linear]) -> tuple[Tensor, Tensor]:
    """Weights [out of all, in] and biases [out of all] of layers side by side; of a single one its own."""
    weights, biases = ([getattr(layer, name).detach() for layer in layers] for name in ("weight", "bias"))
    return (weights[0], biases[0]) if len(layers) == 1 else (torch.cat(weights), torch.cat(biases))
