"""Updates of linear layers as products of two thin matrices, B A, and what can be done to them without B A.

A layer's update is what an adapter adds to the frozen weight. Knows no item, no text and no encoder.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from scoring.artifacts import ExtractorArtifact
from scoring.config import LoraShape

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from scoring.types import ExtractorKey


@dataclass(frozen=True, slots=True, eq=False)
class Update:
    """What one adapter adds to one linear layer: `b @ a`, its scaling folded into b.

    Attributes:
        b: [out, rank]
        a: [rank, in]
    """

    b: Tensor
    a: Tensor

    @property
    def rank(self) -> int:
        """Columns of b: an upper bound of the product's rank."""
        return int(self.b.shape[1])

    def dense(self) -> Tensor:
        """The update itself [out, in]."""
        return self.b @ self.a


#: Linear layers by their path in the backbone -> what is added to each.
Updates = dict[str, Update]


def updates_of(artifact: ExtractorArtifact) -> Updates:
    """What an extractor adds to the backbone, in double precision: merging must not add rounding."""
    scale = artifact.lora.alpha / artifact.lora.rank
    return {
        module: Update(b.double() * scale, a.double())
        for module, (a, b) in sorted(artifact.modules().items())
    }


def artifact_of(
    updates: Mapping[str, Update], like: ExtractorArtifact, *, parents: Sequence[ExtractorKey]
) -> ExtractorArtifact:
    """A merged extractor in PEFT's form; alpha is the rank, so that nothing is scaled.

    Args:
        updates: by linear layer; smaller ranks are padded with zeros.
        like: gives the backbone, and the dropout for whoever trains on.
        parents: keys of the extractors it came from.
    """
    rank = max((update.rank for update in updates.values()), default=1)
    tensors: dict[str, Tensor] = {}
    for module, update in updates.items():
        padded = _padded(update, rank)
        tensors[f"base_model.model.{module}.lora_A.weight"] = padded.a.float().contiguous()
        tensors[f"base_model.model.{module}.lora_B.weight"] = padded.b.float().contiguous()
    shape = LoraShape(
        rank=rank, alpha=float(rank), target_modules=tuple(sorted(updates)), dropout=like.lora.dropout
    )
    return ExtractorArtifact(
        backbone=like.backbone,
        backbone_revision=like.backbone_revision,
        lora=shape,
        tensors=tensors,
        kind="merged",
        parents=tuple(parents),
    )


def concatenated(updates: Sequence[Update], weights: Sequence[float]) -> Update:
    """`sum_i w_i B_i A_i`, exactly, at the sum of the ranks."""
    b = torch.cat([weight * update.b for weight, update in zip(weights, updates, strict=True)], dim=1)
    return Update(b, torch.cat([update.a for update in updates]))


def cut(update: Update, rank: int) -> Update:
    """The nearest update of at most this rank, by Frobenius norm (Eckart and Young, 1936).

    Two thin QR decompositions bring the SVD down to rank x rank, so that `b @ a` is never formed. The root of
    each singular value goes to either side: equal norms train best from here.
    """
    q_b, r_b = torch.linalg.qr(update.b)
    q_a, r_a = torch.linalg.qr(update.a.t())
    u, s, vt = torch.linalg.svd(r_b @ r_a.t(), full_matrices=False)
    root = s[:rank].sqrt()
    return Update(q_b @ u[:, :rank] * root, root[:, None] * (vt[:rank] @ q_a.t()))


def factored(dense: Tensor, rank: int) -> Update:
    """The nearest update of at most this rank to a dense one [out, in]."""
    u, s, vt = torch.linalg.svd(dense, full_matrices=False)
    root = s[:rank].sqrt()
    return Update(u[:, :rank] * root, root[:, None] * vt[:rank])


def _padded(update: Update, rank: int) -> Update:
    missing = rank - update.rank
    if missing == 0:
        return update
    b = torch.cat([update.b, update.b.new_zeros(update.b.shape[0], missing)], dim=1)
    return Update(b, torch.cat([update.a, update.a.new_zeros(missing, update.a.shape[1])]))
