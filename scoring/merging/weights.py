"""Merging by weights alone: several extractors' updates in, one extractor's out; no answer is asked.

Always relative to the pre-trained backbone, and always of the products B A: averaging A and B apart would
average bases that have nothing to do with each other. Knows no head and no item.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import torch

from scoring.errors import IncompatibleArtifactError, InvalidInputError
from scoring.merging.updates import Update, artifact_of, concatenated, cut, factored, updates_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from scoring.artifacts import ExtractorArtifact
    from scoring.merging.updates import Updates
    from scoring.types import ExtractorKey

WeightWay = Literal["mean", "ties", "aligned_ties"]

#: Share of entries that TIES keeps of each update, as its authors recommend.
DENSITY = 0.2


def merge_extractors(
    artifacts: Sequence[ExtractorArtifact],
    *,
    parents: Sequence[ExtractorKey],
    way: WeightWay = "mean",
    rank: int | None = None,
    density: float = DENSITY,
) -> ExtractorArtifact:
    """Merge extractors of one backbone.

    Args:
        artifacts: what to merge; a layer that one of them leaves alone counts as zero there.
        parents: their keys.
        way: "mean" of the updates, "ties" (Yadav et al., 2023), or "aligned_ties": TIES in the common basis
            that an SVD of all updates gives (KnOTS, Stoica et al., 2024).
        rank: cut every layer's update to this rank; None keeps it as it comes out. The mean is then exact, at
            the sum of the ranks.
        density: share of entries that TIES keeps.

    Raises:
        IncompatibleArtifactError: they stand on different backbones.
        InvalidInputError: nothing to merge, or an unknown way.
    """
    if not artifacts:
        raise InvalidInputError("nothing to merge: name at least one extractor")
    for other in artifacts[1:]:
        if other.backbone_revision != artifacts[0].backbone_revision:
            raise IncompatibleArtifactError(
                f"extractors for backbones {artifacts[0].backbone} ({artifacts[0].backbone_revision[:12]}) "
                f"and {other.backbone} ({other.backbone_revision[:12]}) cannot be merged"
            )
    merged = merge_updates([updates_of(one) for one in artifacts], way=way, rank=rank, density=density)
    return artifact_of(merged, artifacts[0], parents=parents)


def merge_updates(
    updates: Sequence[Updates], *, way: WeightWay = "mean", rank: int | None = None, density: float = DENSITY
) -> Updates:
    """`merge_extractors` on updates by linear layer."""
    if way not in get_args(WeightWay):
        raise InvalidInputError(f"way {way!r}: choose one of {', '.join(get_args(WeightWay))}")
    whole = _completed(updates)
    if way == "ties":
        return _ties(whole, rank=rank, density=density)
    weights = [1 / len(whole)] * len(whole)
    merged = {}
    for module in whole[0]:
        group = [one[module] for one in whole]
        one = concatenated(group, weights) if way == "mean" else _aligned_ties(group, density=density)
        merged[module] = one if rank is None or one.rank <= rank else cut(one, rank)
    return merged


def merge_states(
    base: Mapping[str, Tensor],
    states: Sequence[Mapping[str, Tensor]],
    *,
    way: Literal["mean", "ties"] = "mean",
    density: float = DENSITY,
) -> dict[str, Tensor]:
    """Merge whole fine-tuned encoders: GW-SMM's own setting (Fang et al., 2025).

    Args:
        base: the pre-trained weights by name.
        states: the fine-tuned weights, under the same names and of the same shapes.
        way: of the differences to the base.
        density: share of entries that TIES keeps.

    Raises:
        IncompatibleArtifactError: names or shapes differ.
    """
    for state in states:
        for name, weight in base.items():
            if name not in state or state[name].shape != weight.shape:
                raise IncompatibleArtifactError(f"weight {name}: missing or of another shape than the base's")
    deltas = [{name: state[name] - weight for name, weight in base.items()} for state in states]
    if way == "ties":
        return {name: base[name] + delta for name, delta in ties(deltas, density=density).items()}
    return {name: base[name] + torch.stack([one[name] for one in deltas]).mean(0) for name in base}


def ties(deltas: Sequence[Mapping[str, Tensor]], *, density: float) -> dict[str, Tensor]:
    """Trim, elect signs, average what agrees (Yadav et al., 2023).

    Of each set of deltas the `density` largest entries by magnitude stay, over all names together. An entry's
    sign is that of the sum; those of the other sign are left out of the mean.
    """
    if not 0 < density <= 1:
        raise InvalidInputError(f"density is {density}; it lies above 0 and up to 1")
    trimmed = [_trimmed(one, density) for one in deltas]
    return {name: _agreed(torch.stack([one[name] for one in trimmed])) for name in trimmed[0]}


def _ties(updates: Sequence[Updates], *, rank: int | None, density: float) -> Updates:
    dense = ties([{name: one.dense() for name, one in each.items()} for each in updates], density=density)
    return {name: factored(delta, rank or min(delta.shape)) for name, delta in dense.items()}


def _aligned_ties(group: Sequence[Update], *, density: float) -> Update:
    """TIES on the V_i of `[B_1 A_1, B_2 A_2, ...] = U S [V_1, V_2, ...]`; the result stays in that basis."""
    q, r = torch.linalg.qr(torch.cat([one.b for one in group], dim=1))
    u, s, vt = torch.linalg.svd(r @ _side_by_side(group), full_matrices=False)
    parts = vt.split([one.a.shape[1] for one in group], dim=1)
    kept = ties([{"v": part} for part in parts], density=density)
    return Update((q @ u) * s, kept["v"])


def _side_by_side(group: Sequence[Update]) -> Tensor:
    """A_1, A_2, ... as the blocks of one block-diagonal matrix [sum of ranks, num_updates * in]."""
    blocks: Tensor = torch.block_diag(*(one.a for one in group))  # type: ignore[no-untyped-call]
    return blocks


def _completed(updates: Sequence[Updates]) -> list[Updates]:
    """All updates on the union of their layers; a missing one is a zero of rank 1."""
    shapes = {module: (one.b.shape[0], one.a.shape[1]) for each in updates for module, one in each.items()}
    return [
        {
            module: each[module] if module in each else _nothing(*shape)
            for module, shape in sorted(shapes.items())
        }
        for each in updates
    ]


def _nothing(num_out: int, num_in: int) -> Update:
    return Update(torch.zeros(num_out, 1, dtype=torch.double), torch.zeros(1, num_in, dtype=torch.double))


def _trimmed(delta: Mapping[str, Tensor], density: float) -> dict[str, Tensor]:
    sizes = torch.cat([one.abs().flatten() for one in delta.values()])
    num_kept = max(1, round(density * len(sizes)))
    smallest = sizes.kthvalue(len(sizes) - num_kept + 1).values
    return {name: torch.where(one.abs() >= smallest, one, 0.0) for name, one in delta.items()}


def _agreed(stack: Tensor) -> Tensor:
    """Mean, over those entries [num_deltas, ...] that are not zero, of those with the sum's sign."""
    agree = (stack.sign() == stack.sum(0).sign()) & (stack != 0)
    num_agreeing = agree.sum(0).clamp(min=1)
    return torch.where(agree, stack, 0.0).sum(0) / num_agreeing
