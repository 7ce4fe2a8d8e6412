"""Feature clouds made from a seed: blobs, moved copies, and clouds with the spread of text features."""

from __future__ import annotations

import numpy as np

from scoring.merging.clouds import FeatureCloud


def blobs(seed: int, *, num_answers: int, num_dims: int, num_duplicates: int = 0) -> np.ndarray:
    """A few blobs of unequal size and shape; the last answers repeat the first [num_answers, num_dims]."""
    rng = np.random.default_rng(seed)
    centres = 2 * rng.normal(size=(int(rng.integers(1, 5)), num_dims))
    spread = np.linspace(1, rng.uniform(0.2, 1), num_dims)
    points = (
        centres[rng.integers(len(centres), size=num_answers)] + rng.normal(size=(num_answers, num_dims))
    ) * spread
    if num_duplicates:
        points[-num_duplicates:] = points[:num_duplicates]
    return points


def textlike(seed: int, *, num_answers: int, num_dims: int = 64) -> np.ndarray:
    """Many dimensions of slowly falling weight, so that all distances are nearly alike, as among texts."""
    rng = np.random.default_rng(seed)
    weights = np.arange(1, num_dims + 1) ** -rng.uniform(0.3, 0.8)
    return rng.normal(size=(num_answers, num_dims)) * weights


def moved(points: np.ndarray, seed: int) -> np.ndarray:
    """The same cloud rotated (or mirrored), shifted, and in another order."""
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.normal(size=(points.shape[1], points.shape[1])))
    return rng.permutation(points @ rotation + rng.normal(size=points.shape[1]))


def cloud(item_id: str, points: np.ndarray, **fields: str) -> FeatureCloud:
    """These points as an item's cloud."""
    return FeatureCloud.of(item_id, points.astype(np.float32), **fields)
