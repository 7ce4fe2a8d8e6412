"""Soft matching of two clouds, hardened step by step: where the solver starts best.

Relational matrices come in, an affinity of each two answers goes out; turning it into a coupling is left to
the transport solver. Where distances within a cloud hardly differ, as among text features, conditional
gradient from the usual starts ends far above what is found from here (docs/benchmarks.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Answers of each cloud that are matched first; the others join by their distances to these.
NUM_ANCHORS = 100
#: Hardness by step, in standard deviations of the affinities.
_ANCHOR_STEPS = np.geomspace(2, 8, 20)
_FULL_STEPS = np.geomspace(4, 12, 6)
_COARSE_STEPS = np.geomspace(2, 8, 10)
_NUM_SCALINGS = 10


def matched_affinity(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """Graduated assignment (Gold and Rangarajan, 1996): T <- Sinkhorn(exp(hardness * A T B)).

    Large clouds are matched by their first answers, which are random ones, then extended and hardened again.

    Returns:
        affinity of each two answers, centred [num_first, num_second]; the coupling that maximises it is
        where the solver starts
    """
    anchors, others = a[:NUM_ANCHORS, :NUM_ANCHORS], b[:NUM_ANCHORS, :NUM_ANCHORS]
    affinity = _hardened(anchors, others, _alone(anchors, others), _ANCHOR_STEPS)
    if anchors.shape == a.shape and others.shape == b.shape:
        return affinity
    matched = _soft_coupling(affinity, float(_ANCHOR_STEPS[-1]))
    extended = a[:, : len(anchors)] @ matched @ b[: len(others)]
    return _hardened(a, b, _centred(extended), _FULL_STEPS)


def coarse_affinity(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same in fewer steps, for small samples of many pairs."""
    return _hardened(a, b, _alone(a, b), _COARSE_STEPS)


def _hardened(
    a: NDArray[np.float32], b: NDArray[np.float32], affinity: NDArray[np.float32], steps: NDArray[np.float64]
) -> NDArray[np.float32]:
    for hardness in steps:
        affinity = _centred(a @ _soft_coupling(affinity, float(hardness)) @ b)
    return affinity


def _alone(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """Affinity under the coupling that knows nothing: far answers go with far ones.

    A little noise decides between answers that all look alike, as in a cloud that is its own mirror image.
    """
    affinity = np.outer(a.mean(axis=1) - a.mean(), b.mean(axis=1) - b.mean())
    noise = np.random.default_rng(affinity.shape).normal(size=affinity.shape)
    return _centred(affinity + 1e-3 * max(float(affinity.std()), 1e-3) * noise).astype(np.float32)


def _soft_coupling(affinity: NDArray[np.float32], hardness: float) -> NDArray[np.float32]:
    """Sinkhorn's scaling of exp(hardness * affinity / its spread) to uniform marginals, to a few per cent."""
    spread = affinity.std()
    exponent = affinity * np.float32(hardness / spread) if spread > 0 else affinity
    exponent = exponent - exponent.max(axis=1, keepdims=True)
    kernel = np.exp(exponent) + np.float32(1e-30)  # no column may vanish
    columns = np.ones(kernel.shape[1], dtype=np.float32)
    for _ in range(_NUM_SCALINGS):
        rows = 1 / (kernel @ columns)
        columns = len(rows) / len(columns) / (rows @ kernel)
    scaled: NDArray[np.float32] = rows[:, None] * kernel * columns
    return scaled


def _centred(affinity: NDArray[Any]) -> NDArray[np.float32]:
    # What a row or column gains with every partner alike decides nothing, and slows the transport solver.
    affinity = affinity - affinity.mean(axis=1, keepdims=True)
    centred: NDArray[np.float32] = affinity - affinity.mean(axis=0)
    return centred
