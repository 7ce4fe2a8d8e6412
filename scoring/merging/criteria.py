"""Ways to say which items to merge first, beside GW: each gives a pair of items a dissimilarity.

What is known of two items comes in, one number goes out, smaller meaning "merge first". Numbers of one
criterion can be compared with each other only. Nobody has shown that one of them predicts the loss of a merge
best, which is why they stand side by side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from scoring.errors import InvalidInputError
from scoring.merging.distances import GwSettings, gw_distance

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scoring.merging.clouds import FeatureCloud


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ItemProfile:
    """What criteria look at; whatever a criterion does not need may be left out.

    Attributes:
        cloud: the item's own answers through its own extractor
        probe: features of answers that are the same for all items, through this item's extractor
            [num_probes, hidden]
        adapter: adapted linear layer -> (A [rank, in], B [out, rank])
        gradient: the loss's gradient at a point that is the same for all items [num_weights]
        prompt: the prompt's feature by the bare backbone [hidden]
    """

    cloud: FeatureCloud
    probe: NDArray[np.float32] | None = None
    adapter: Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]] | None = None
    gradient: NDArray[np.float32] | None = None
    prompt: NDArray[np.float32] | None = None


Criterion = Callable[[ItemProfile, ItemProfile], float]


def gw_criterion(settings: GwSettings) -> Criterion:
    """The Gromov-Wasserstein distance under these settings (Memoli, 2011; Fang et al., 2025)."""

    def gw(first: ItemProfile, second: ItemProfile) -> float:
        one, other = (settings.relations(profile.cloud) for profile in (first, second))
        return gw_distance(one, other, settings).distance

    return gw


def mean_cosine(first: ItemProfile, second: ItemProfile) -> float:
    """1 - cosine of the clouds' mean features."""
    one, other = (profile.cloud.features.mean(axis=0, dtype=np.float64) for profile in (first, second))
    return _one_minus_cosine(one, other)


def linear_cka(first: ItemProfile, second: ItemProfile) -> float:
    """1 - CKA with a linear kernel (Kornblith et al., 2019), of both extractors on the same answers.

    CKA = |Y'X|_F^2 / (|X'X|_F |Y'Y|_F) for column-centred features X and Y.
    """
    x, y = (_needed(profile, profile.probe, "probe features") for profile in (first, second))
    if len(x) != len(y):
        raise InvalidInputError(
            f"items {first.cloud.item_id} and {second.cloud.item_id}: {len(x)} and {len(y)} probe answers; "
            "linear CKA compares extractors on the same ones"
        )
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    norm = float(np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))
    return 1.0 - float(np.linalg.norm(y.T @ x)) ** 2 / norm if norm > 0 else 1.0


def subspace_distance(first: ItemProfile, second: ItemProfile) -> float:
    """1 - mean overlap of the subspaces that the adapters read from and write to.

    Overlap of two subspaces with orthonormal bases U and V: |U'V|_F^2 / min(dim U, dim V), the mean squared
    cosine of their principal angles, over both sides of B A and all layers that both adapters change.
    """
    one, other = (_needed_adapter(profile) for profile in (first, second))
    overlaps = []
    for layer in sorted(one.keys() & other.keys()):
        for u, v in zip(_bases(*one[layer]), _bases(*other[layer]), strict=True):
            width = min(u.shape[1], v.shape[1])
            overlaps.append(float(np.linalg.norm(u.T @ v)) ** 2 / width if width else 0.0)
    return 1.0 - float(np.mean(overlaps)) if overlaps else 1.0


def gradient_distance(first: ItemProfile, second: ItemProfile) -> float:
    """1 - cosine of the losses' gradients: whether a step for one item serves the other."""
    return _one_minus_cosine(*(_needed(profile, profile.gradient, "gradient") for profile in (first, second)))


def prompt_distance(first: ItemProfile, second: ItemProfile) -> float:
    """1 - cosine of the prompts' features."""
    return _one_minus_cosine(*(_needed(profile, profile.prompt, "prompt") for profile in (first, second)))


def random_criterion(seed: int) -> Criterion:
    """A number between 0 and 1 that depends on the seed and the two items' ids alone."""

    def draw(first: ItemProfile, second: ItemProfile) -> float:
        ids = sorted((first.cloud.item_id, second.cloud.item_id))
        content = "\0".join([str(seed), *ids]).encode()
        return int.from_bytes(hashlib.sha256(content).digest()[:8]) / 2**64

    return draw


CRITERIA: Mapping[str, Criterion] = MappingProxyType(
    {
        "gw": gw_criterion(GwSettings()),
        "cosine": mean_cosine,
        "cka": linear_cka,
        "subspace": subspace_distance,
        "gradient": gradient_distance,
        "prompt": prompt_distance,
        "random": random_criterion(0),
    }
)


def _one_minus_cosine(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    norm = float(np.linalg.norm(one) * np.linalg.norm(other))
    return 1.0 - float(one @ other) / norm if norm > 0 else 1.0


def _needed(profile: ItemProfile, values: NDArray[np.float32] | None, what: str) -> NDArray[np.float64]:
    if values is None:
        raise InvalidInputError(f"item {profile.cloud.item_id}: no {what} given, which this criterion needs")
    return values.astype(np.float64)


def _needed_adapter(profile: ItemProfile) -> Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]]:
    if profile.adapter is None:
        raise InvalidInputError(f"item {profile.cloud.item_id}: no adapter given, which this criterion needs")
    return profile.adapter


def _bases(a: NDArray[np.float32], b: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Orthonormal bases of what B A writes to [out, k] and reads from [in, k]."""
    q_out, r_out = np.linalg.qr(b.astype(np.float64))
    q_in, r_in = np.linalg.qr(a.astype(np.float64).T)
    left, values, right = np.linalg.svd(r_out @ r_in.T)
    kept = values > values[0] * 1e-6 if values[0] > 0 else np.zeros(len(values), dtype=bool)
    return q_out @ left[:, kept], q_in @ right.T[:, kept]
