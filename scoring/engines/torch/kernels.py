"""Which kernels this machine runs fastest, found by a short measurement, and whether they compute right.

Knows linear layers only. A kernel that is absent, wrong or slow is never chosen, so that the same code serves
processors that it has not seen.
"""

from __future__ import annotations

import time
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import nn

from scoring.engines.torch.linear import DenseLinear, InputRange, Int8Linear, PackedLinear

if TYPE_CHECKING:
    from scoring.engines.torch.linear import FrozenLinear

_NUM_TOKENS = 256
_NUM_IN = 384
_NUM_OUT = 1152
_NUM_TRIALS = 10
#: Results that do not depend on a row's company are worth a tenth of the speed.
_PACKED_HANDICAP = 1.1
#: Below this gain int8 is not worth its rounding.
_MIN_INT8_GAIN = 1.2


@lru_cache(maxsize=1)
def fp32_kernel() -> type[DenseLinear | PackedLinear]:
    """The kernel for fp32 on this CPU; oneDNN unless it is missing or clearly slower."""
    layer, x = _sample()
    try:
        packed_s, dense_s = _seconds(x, PackedLinear([layer]), DenseLinear([layer]))
    except (AttributeError, RuntimeError):
        return DenseLinear
    return PackedLinear if packed_s < _PACKED_HANDICAP * dense_s else DenseLinear


@lru_cache(maxsize=1)
def int8_works() -> bool:
    """Whether int8 computes exactly what integers give.

    On processors without VNNI some kernels saturate sums of two products; such a kernel is refused here.
    """
    try:
        return _is_exact()
    except (AttributeError, RuntimeError):
        return False


@lru_cache(maxsize=1)
def int8_pays() -> bool:
    """Whether int8 works, and is done sooner than fp32."""
    if not int8_works():
        return False
    layer, x = _sample()
    lies = InputRange(x.std(0), x.mean(0))
    int8_s, fp32_s = _seconds(x, Int8Linear([layer], lies), fp32_kernel()([layer]))
    return int8_s * _MIN_INT8_GAIN < fp32_s


@torch.inference_mode()
def _is_exact() -> bool:
    # Extreme integers: all sums stand at the end of their range.
    layer = nn.Linear(_NUM_IN, 16, bias=True)
    signs = torch.where(torch.arange(_NUM_IN) % 2 == 0, 1.0, -1.0)
    layer.weight.data = signs.repeat(16, 1)
    layer.weight.data[8:] = 1.0
    layer.bias.data.zero_()
    x = torch.stack([signs, torch.ones(_NUM_IN), -signs])
    expected = x @ layer.weight.T
    swing = torch.ones(_NUM_IN)
    lies = InputRange(swing, torch.zeros(_NUM_IN)), InputRange(swing, -swing, is_floor=True)
    return all(torch.allclose(Int8Linear([layer], one)(x), expected, rtol=1e-5, atol=1e-3) for one in lies)


def _sample() -> tuple[nn.Linear, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    layer = nn.Linear(_NUM_IN, _NUM_OUT).requires_grad_(requires_grad=False)
    layer.weight.data = torch.randn(_NUM_OUT, _NUM_IN, generator=generator) * 0.05
    layer.bias.data.zero_()
    return layer, torch.randn(_NUM_TOKENS, _NUM_IN, generator=generator)


@torch.inference_mode()
def _seconds(x: torch.Tensor, *layers: FrozenLinear) -> list[float]:
    """What each layer needs at best; they take turns, so that a busy moment meets all of them."""
    trials: list[list[float]] = [[] for _ in layers]
    for _ in range(_NUM_TRIALS):
        for layer, own in zip(layers, trials, strict=True):
            started = time.perf_counter()
            layer(x)
            own.append(time.perf_counter() - started)
    return [min(own) for own in trials]
