"""A frozen linear layer of the encoder in three arithmetics, each row's result independent of all others.

Knows weights and rows; knows neither adapters nor what the rows stand for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

#: What is added to quantised activations, so that they are unsigned: oneDNN's fast kernels want them so.
ZERO_POINT = 128


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


class Int8Linear:
    """int8 weights per output channel, int8 activations per row; CPU only.

    y = s_x s_w (q_x q_w) + b, where q_x = round(x / (m s_x)), s_x = max|x / m| / 127 of each row by itself,
    and m moves the spread of channels from activations into weights (SmoothQuant, Xiao et al., 2023):
    m_j = max|x_j|^1/2 / max|w_j|^1/2. The product of integers is exact, so that a row comes out bit for bit
    the same in any company.
    """

    def __init__(self, layers: Sequence[nn.Linear], input_range: Tensor) -> None:
        """Quantise the weights.

        Args:
            layers: as for the others
            input_range: greatest absolute value of each input channel on sample texts [in]
        """
        weight, self._bias = stacked(layers)
        quantised, self._scale, self._unsmooth = quantise(weight, input_range)
        self._no_offset = torch.zeros(len(weight), dtype=torch.int32)
        self._packed = torch.ops.onednn.qlinear_prepack(quantised, None)

    def __call__(self, x: Tensor) -> Tensor:
        """[rows, in] -> [rows, out]."""
        y = x * self._unsmooth
        # Two passes for the greatest and the least are quicker than one for the absolute value and another.
        scale = torch.maximum(y.amax(1, keepdim=True), -y.amin(1, keepdim=True)).clamp_(min=1e-9).div_(127)
        # Truncation of what is positive rounds to the nearest when a half is added beforehand.
        quantised = y.mul_(scale.reciprocal()).add_(ZERO_POINT + 0.5).to(torch.uint8)
        out: Tensor = torch.ops.onednn.qlinear_pointwise(
            quantised,
            1.0,
            ZERO_POINT,
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


def quantise(weight: Tensor, input_range: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Integers, scales and 1 / m of `Int8Linear`.

    Args:
        weight: [out, in]
        input_range: greatest absolute value of each input channel [in]

    Returns:
        int8 weights [out, in], scale of each output [out], factor of each input [in]
    """
    smooth = (input_range.clamp(min=1e-4) / weight.abs().amax(0).clamp(min=1e-4)).sqrt()
    weight = weight * smooth
    scale = (weight.abs().amax(1) / 127).clamp(min=1e-12)
    return torch.round(weight / scale[:, None]).to(torch.int8), scale, 1 / smooth


def stacked(layers: Sequence[nn.Linear]) -> tuple[Tensor, Tensor]:
    """Weights [out of all, in] and biases [out of all] of layers side by side."""
    return torch.cat([layer.weight.detach() for layer in layers]), torch.cat(
        [layer.bias.detach() for layer in layers]
    )
