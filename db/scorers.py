"""Scorers as people look them up: which there are, where they come from, which alias points to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Connection


@dataclass(frozen=True, slots=True)
class ScorerListing:
    """One scorer with its extractor and the run that made it; `verdict` is None where no gate was asked."""

    scorer_id: int
    item_id: str
    aliases: tuple[str, ...]
    created_at: datetime
    scorer_key: str
    extractor_key: str
    extractor_kind: str
    backbone: str
    backbone_revision: str
    rank: int
    num_bytes: int
    metrics: dict[str, Any]
    training_run_id: int | None
    trigger: str | None
    verdict: str | None


def list_scorers(
    connection: Connection, *, item_ids: Sequence[str] = (), scorer_ids: Sequence[int] = ()
) -> list[ScorerListing]:
    """Scorers of these items or with these numbers, all by default; the newest of an item first."""
    rows = connection.execute(
        text("""
            SELECT s.scorer_id, s.item_id,
                   ARRAY(SELECT a.alias FROM model.alias a WHERE a.scorer_id = s.scorer_id ORDER BY 1)
                       AS aliases,
                   s.created_at, s.scorer_key, x.extractor_key, x.kind AS extractor_kind, x.backbone,
                   x.backbone_revision, x.rank, x.num_bytes, s.metrics, s.training_run_id, r.trigger,
                   r.verdict
            FROM model.scorer s JOIN model.extractor x USING (extractor_id)
            LEFT JOIN model.training_run r USING (training_run_id)
            WHERE (cardinality(CAST(:items AS text[])) = 0 OR s.item_id = ANY(CAST(:items AS text[])))
              AND (cardinality(CAST(:ids AS bigint[])) = 0 OR s.scorer_id = ANY(CAST(:ids AS bigint[])))
            ORDER BY s.item_id, s.scorer_id DESC
        """),
        {"items": list(item_ids), "ids": list(scorer_ids)},
    )
    return [ScorerListing(**{**row._mapping, "aliases": tuple(row.aliases)}) for row in rows]


def training_run(connection: Connection, training_run_id: int) -> dict[str, Any]:
    """Everything that is written about one training: why, with what, on how many submissions of each fold."""
    row = connection.execute(
        text("""
            SELECT r.training_run_id, r.trigger, r.period, r.state, r.config, r.data, r.metrics, r.verdict,
                   r.decision, r.evidence, r.error, r.num_attempts, r.started_at, r.finished_at,
                   (SELECT jsonb_object_agg(fold, num) FROM (
                        SELECT fold, count(*) AS num FROM model.training_run_submission t
                        WHERE t.training_run_id = r.training_run_id GROUP BY fold) f) AS submissions
            FROM model.training_run r WHERE r.training_run_id = :run
        """),
        {"run": training_run_id},
    ).one()
    return dict(row._mapping)
