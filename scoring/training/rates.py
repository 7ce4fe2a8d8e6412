"""How a learning rate moves over a training; knows no optimizer's rates and no data."""

from __future__ import annotations


def ramp(step: int, num_steps: int, *, warmup_share: float) -> float:
    """Factor on the rate at a step, from 0: a linear rise, then a linear fall to zero after the last one."""
    num_warmup = max(1, round(warmup_share * num_steps))
    return min((step + 1) / num_warmup, (num_steps - step) / max(1, num_steps - num_warmup))
