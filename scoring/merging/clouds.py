"""Feature clouds: a seeded sample of one item's answers as its own extractor sees them.

Row numbers and features pass through; where answers lie and what made the features is not known here.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scoring.errors import InvalidInputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scoring.merging.summaries import CloudSummary


@dataclass(frozen=True, slots=True, eq=False)
class FeatureCloud:
    """One item's features, in an order drawn by a seed: every prefix is itself a random sample.

    Attributes:
        item_id: the item
        features: one row an answer [num_answers, hidden]
        digest: changes when the features or the sample change; distances are cached by it
        block: what has to be equal for two items to be compared at all (backbone, adapter shape, language)
        summary: what an earlier search with the same settings told of it, where that has been kept

    Raises:
        InvalidInputError: the features are no finite table of at least two rows.
    """

    item_id: str
    features: NDArray[np.float32]
    digest: str
    block: str = ""
    summary: CloudSummary | None = None

    def __post_init__(self) -> None:
        if self.features.ndim != 2 or len(self.features) < 2:
            raise InvalidInputError(
                f"item {self.item_id}: a cloud of shape {list(self.features.shape)}; "
                "at least two answers with one feature vector each are needed"
            )
        if not np.isfinite(self.features).all():
            raise InvalidInputError(f"item {self.item_id}: a feature is not finite; check its extractor")

    def __len__(self) -> int:
        return len(self.features)

    @classmethod
    def of(cls, item_id: str, features: NDArray[np.float32], *, block: str = "") -> FeatureCloud:
        """A cloud whose digest is made of the features themselves."""
        return cls(item_id, features, features_digest(features), block)


def sample_rows(num_rows: int, *, max_rows: int, seed: int, item_id: str) -> NDArray[np.int64]:
    """Which of an item's answers form its cloud, in drawn order, without repetition.

    The same numbers, seed and item give the same rows in any process; another `max_rows` gives a longer or
    shorter prefix of them, so that a small sample is part of every larger one.
    """
    return _generator(seed, item_id).permutation(num_rows)[:max_rows].astype(np.int64)


def features_digest(features: NDArray[np.float32]) -> str:
    """Sha256 (hex) over the shape and the values."""
    digest = hashlib.sha256(repr(features.shape).encode())
    digest.update(np.ascontiguousarray(features, dtype="<f4").tobytes())
    return digest.hexdigest()


def _generator(seed: int, item_id: str) -> np.random.Generator:
    # Python's own hash of a string differs from process to process.
    words = np.frombuffer(hashlib.sha256(item_id.encode()).digest(), dtype="<u4")
    return np.random.default_rng([seed, *words.tolist()])
