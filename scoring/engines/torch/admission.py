"""Whether an item may be scored in int8: tried on its validation answers, written down, read at load.

Both forwards run over the same answers, and what counts is what a student would see: levels. Knows no store;
training writes the finding into the scorer's lineage.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from scoring.engines.findings import SCHEME, Int8Finding
from scoring.engines.rows import Rows, cut
from scoring.engines.torch.encoders import Encoders, make_bank
from scoring.heads import decide
from scoring.metrics import quadratic_weighted_kappa

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from scoring.artifacts import ExtractorArtifact, ScorerArtifact
    from scoring.backbone import Backbone
    from scoring.bank import AdapterBank

_BATCH_TOKENS = 1024


def try_int8(
    scorer: ScorerArtifact,
    extractor: ExtractorArtifact,
    *,
    backbone: Backbone,
    token_ids: Sequence[list[int]],
    levels: NDArray[np.integer],
) -> dict[str, Any] | None:
    """Score answers in fp32 and in int8 and compare; None where int8 cannot run or there are no answers.

    Args:
        scorer: head and decisions
        extractor: its adapter
        backbone: the encoder that both were made for
        token_ids: validation answers, special tokens included [num_answers][tokens]
        levels: what people gave [num_answers, num_traits]

    Returns:
        an `Int8Finding` as JSON values, for the lineage under `LINEAGE_KEY`
    """
    bank, encoders = _workbench(backbone)
    if not encoders.can_int8 or not len(token_ids):
        return None
    slot = bank.add(extractor.modules(), scale=extractor.lora.alpha / extractor.lora.rank)
    try:
        plain, int8 = (
            _logits(scorer, encoders, _rows(token_ids, slot, scorer, is_int8=is_int8))
            for is_int8 in (False, True)
        )
    finally:
        bank.remove(slot)
    return asdict(_finding(scorer, plain, int8, levels))


# Kept: packing and quantising an encoder takes longer than comparing a hundred answers.
@lru_cache(maxsize=1)
def _workbench(backbone: Backbone) -> tuple[AdapterBank, Encoders]:
    bank = make_bank(backbone)
    return bank, Encoders(backbone, bank)


def _rows(token_ids: Sequence[list[int]], slot: int, scorer: ScorerArtifact, *, is_int8: bool) -> Rows:
    num_rows = len(token_ids)
    return Rows(
        token_ids=list(token_ids),
        slots=np.full(num_rows, slot, dtype=np.intp),
        is_cls=np.full(num_rows, scorer.pooling == "cls"),
        lengths=np.array([len(ids) for ids in token_ids], dtype=np.intp),
        is_int8=np.full(num_rows, is_int8),
    )


@torch.inference_mode()
def _logits(scorer: ScorerArtifact, encoders: Encoders, rows: Rows) -> NDArray[np.float32]:
    logits = np.empty((len(rows), len(scorer.head_bias)), dtype=np.float32)
    for indices in cut(rows, _BATCH_TOKENS):
        features = encoders.features(rows.take(indices)).cpu()
        logits[indices] = (features @ scorer.head_weight.T + scorer.head_bias).numpy()
    return logits


def _finding(
    scorer: ScorerArtifact,
    plain: NDArray[np.float32],
    int8: NDArray[np.float32],
    levels: NDArray[np.integer],
) -> Int8Finding:
    agreements, changes, column = [], [], 0
    for place, trait in enumerate(scorer.item.traits):
        columns = slice(column, column + trait.num_levels)
        decision, human = scorer.decisions[trait.name], levels[:, place]
        before, after = (decide(logits[:, columns], decision).level for logits in (plain, int8))
        agreements.append(float(np.mean(before == after)))
        change = quadratic_weighted_kappa(after, human) - quadratic_weighted_kappa(before, human)
        # Where people gave one level alone there is no kappa to lose; the agreement decides.
        changes.append(0.0 if math.isnan(change) else change)
        column += trait.num_levels
    return Int8Finding(
        scheme=SCHEME,
        num_answers=len(plain),
        agreement=min(agreements),
        qwk_change=min(changes),
        max_change=float(np.abs(plain - int8).max()),
    )
