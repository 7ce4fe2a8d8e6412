"""A merged group as artifacts: one extractor and a scorer for each item, with golden rows and lineage.

Knows the store's forms; knows no data and no judgement.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from scoring.artifacts import ScorerArtifact
from scoring.engines.findings import LINEAGE_KEY
from scoring.engines.torch.admission import try_int8
from scoring.merging.members import levels_of
from scoring.merging.updates import artifact_of, updates_of
from scoring.training.golden import GOLDEN_TEXTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scoring.artifacts import ArtifactStore, ExtractorArtifact
    from scoring.merging.extraction import SharedReader
    from scoring.merging.fusing import Fusion
    from scoring.merging.members import Member
    from scoring.merging.refit import Head
    from scoring.types import Decision, ExtractorKey, ScorerKey


@dataclass(frozen=True, slots=True, eq=False)
class StoredFusion:
    """Where a merged group lies and how large its extractor is; scorers in the order of its members."""

    extractor_key: ExtractorKey
    extractor: ExtractorArtifact
    num_bytes: int
    scorer_keys: tuple[ScorerKey, ...]


def store_fusion(
    fusion: Fusion,
    members: Sequence[Member],
    *,
    reader: SharedReader,
    store: ArtifactStore,
    lineage: dict[str, Any],
) -> StoredFusion:
    """Write a merged extractor and a scorer for each member; equal content gives equal keys.

    Args:
        fusion: what the group became.
        members: its items, in the same order.
        reader: computes the golden logits, apart from the engine that will be asked for them.
        store: where to write.
        lineage: how it came about: JSON values only, and no clock.

    Raises:
        StoreUnavailableError: the store does not answer.
    """
    parents = tuple(dict.fromkeys(member.scorer.extractor for member in members))
    extractor = artifact_of(fusion.updates, members[0].extractor, parents=parents)
    key = store.write_extractor(extractor)
    # As they are stored, in single precision, not as they were computed.
    golden = torch.from_numpy(reader.features(reader.read(GOLDEN_TEXTS), updates_of(extractor)))
    told = {**lineage, "merged": {"method": fusion.method, "items": [m.item.item_id for m in members]}}
    scorers = []
    for member, head, decisions in zip(members, fusion.heads, fusion.decisions, strict=True):
        scorer = _scorer(member, key, head, decisions, golden, told)
        scorers.append(store.write_scorer(_tried(scorer, extractor, member, reader)))
    return StoredFusion(key, extractor, store.num_bytes(key), tuple(scorers))


def _tried(
    scorer: ScorerArtifact, extractor: ExtractorArtifact, member: Member, reader: SharedReader
) -> ScorerArtifact:
    """With what its validation answers say of int8, as for any trained scorer."""
    finding = try_int8(
        scorer,
        extractor,
        backbone=reader.backbone,
        token_ids=reader.encode([one.text for one in member.validation]),
        levels=levels_of(member.item, member.validation),
    )
    return replace(scorer, lineage=scorer.lineage | {LINEAGE_KEY: finding})


def _scorer(
    member: Member,
    extractor: ExtractorKey,
    head: Head,
    decisions: dict[str, Decision],
    golden: torch.Tensor,
    lineage: dict[str, Any],
) -> ScorerArtifact:
    weight, bias = torch.from_numpy(head.weight).float(), torch.from_numpy(head.bias).float()
    before = member.scorer
    return ScorerArtifact(
        item=before.item,
        extractor=extractor,
        backbone=before.backbone,
        backbone_revision=before.backbone_revision,
        pooling=before.pooling,
        max_tokens=before.max_tokens,
        head_weight=weight.contiguous(),
        head_bias=bias.contiguous(),
        decisions=decisions,
        golden_texts=GOLDEN_TEXTS,
        golden_logits=golden @ weight.t() + bias,
        lineage=lineage,
    )
