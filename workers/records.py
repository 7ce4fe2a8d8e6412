"""What the registry is told of a scorer, from a training's report or its artifacts; nothing is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from db.registry import ScorerRecord
from workers.evaluating import plain

if TYPE_CHECKING:
    from scoring.artifacts import ExtractorArtifact
    from scoring.types import ExtractorKey, ScorerKey, TrainingReport


def trained_record(report: TrainingReport, training_run_id: int) -> ScorerRecord:
    """A scorer that a training run left, with its figures on the test fold."""
    return ScorerRecord(
        item_id=report.item_id,
        scorer_key=report.scorer_key,
        extractor_key=report.extractor_key,
        extractor_kind="item",
        backbone=report.backbone,
        backbone_revision=report.backbone_revision,
        rank=report.rank,
        alpha=report.alpha,
        target_modules=report.target_modules,
        num_bytes=report.extractor_num_bytes,
        metrics={
            "test": plain(report.metrics),
            "num_test": report.num_test,
            "warnings": list(report.warnings),
        },
        training_run_id=training_run_id,
    )


def stored_record(
    item_id: str,
    scorer_key: ScorerKey,
    extractor_key: ExtractorKey,
    extractor: ExtractorArtifact,
    *,
    num_bytes: int,
    metrics: dict[str, Any],
    training_run_id: int | None = None,
) -> ScorerRecord:
    """A scorer whose artifacts lie in the store.

    Args:
        item_id: what it scores
        scorer_key: head and decisions
        extractor_key: of the adapter
        extractor: the adapter itself
        num_bytes: what it takes in the store
        metrics: its figures, as a training tells them
        training_run_id: the run that it came of, where one is known
    """
    return ScorerRecord(
        item_id=item_id,
        scorer_key=scorer_key,
        extractor_key=extractor_key,
        extractor_kind=extractor.kind,
        backbone=extractor.backbone,
        backbone_revision=extractor.backbone_revision,
        rank=extractor.lora.rank,
        alpha=extractor.lora.alpha,
        target_modules=extractor.lora.target_modules,
        num_bytes=num_bytes,
        metrics=metrics,
        training_run_id=training_run_id,
    )
