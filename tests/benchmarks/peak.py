"""How fast these cores can multiply at best, and how much arithmetic one pass of the encoder holds."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch
from torch import nn

from scoring.engines.torch.linear import DenseLinear, PackedLinear

if TYPE_CHECKING:
    from collections.abc import Callable

    from scoring.backbone import Backbone

_SIDE = 1536
_NUM_TRIALS = 12


def fp32_peak() -> float:
    """Operations a second of the better fp32 product, by this process's CPU time."""
    layer = nn.Linear(_SIDE, _SIDE).requires_grad_(requires_grad=False)
    x = torch.randn(_SIDE, _SIDE)
    return max(_rate(lambda kind=kind: kind([layer])(x)) for kind in (DenseLinear, PackedLinear))


def int8_peak() -> float:
    """The same for a product of int8 matrices, without quantising or scaling."""
    a, b = (torch.randint(-128, 127, (_SIDE, _SIDE), dtype=torch.int8) for _ in range(2))
    return _rate(lambda: torch._int_mm(a, b))


def operations_per_token(backbone: Backbone, mean_tokens: float) -> float:
    """Multiplications and additions of the encoder for one token of a row of this length."""
    hidden, layers = backbone.hidden_size, backbone.num_layers
    return layers * (24 * hidden**2 + 4 * mean_tokens * hidden)


def _rate(run: Callable[[], object]) -> float:
    run()
    trials = []
    for _ in range(_NUM_TRIALS):
        started = time.process_time()
        run()
        trials.append(time.process_time() - started)
    return 2 * _SIDE**3 / min(trials)
