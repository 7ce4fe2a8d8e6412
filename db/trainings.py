"""What has been trained already: a finished run's scorer, by what the run was given, and a run's lineage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import JSONB

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection


def finished(
    connection: Connection, item_id: str, *, config: dict[str, Any], data: dict[str, Any], revision: str
) -> tuple[int, str] | None:
    """The newest scorer that was trained by this recipe, from this data, on this backbone.

    Args:
        connection: an open transaction.
        item_id: whose scorer.
        config: the whole recipe, equal in every value.
        data: what the run was given; a run that told more of its data counts too.
        revision: sha256 of the backbone's content.

    Returns:
        number and key of the scorer, or none
    """
    statement = text("""
        SELECT s.scorer_id, s.scorer_key
        FROM model.training_run r
        JOIN model.scorer s ON s.item_id = r.item_id AND s.training_run_id = r.training_run_id
        JOIN model.extractor x USING (extractor_id)
        WHERE r.item_id = :item_id AND r.state = 'done' AND r.config = :config AND r.data @> :data
          AND x.backbone_revision = :revision
        ORDER BY s.scorer_id DESC LIMIT 1
    """).bindparams(bindparam("config", type_=JSONB), bindparam("data", type_=JSONB))
    values = {"item_id": item_id, "config": config, "data": data, "revision": revision}
    row = connection.execute(statement, values).first()
    return None if row is None else (int(row.scorer_id), str(row.scorer_key))


def end_stale(connection: Connection, item_id: str, *, config: dict[str, Any], data: dict[str, Any]) -> None:
    """Close runs by hand of the same recipe and data that never ended: their process was killed.

    One that is still at work concludes its row nevertheless.
    """
    statement = text("""
        UPDATE model.training_run
        SET state = 'failed', error = 'ended from outside; trained again', finished_at = now()
        WHERE item_id = :item_id AND state = 'running' AND period IS NULL AND trigger = 'manual'
          AND config = :config AND data @> :data
    """).bindparams(bindparam("config", type_=JSONB), bindparam("data", type_=JSONB))
    connection.execute(statement, {"item_id": item_id, "config": config, "data": data})


def recipe_of(connection: Connection, scorer_id: int) -> dict[str, Any] | None:
    """What the run of a scorer wrote down of its recipe; None for a scorer without a run."""
    found: dict[str, Any] | None = connection.execute(
        text("""
            SELECT r.config FROM model.scorer c JOIN model.training_run r USING (training_run_id)
            WHERE c.scorer_id = :scorer_id
        """),
        {"scorer_id": scorer_id},
    ).scalar_one_or_none()
    return found


def add_lineage(connection: Connection, training_run_id: int, folds: Mapping[int, str]) -> bool:
    """Write down what a run learned from and was measured on: each submission with its fold.

    Returns:
        False where one of them has been erased meanwhile; the others are written.
    """
    added = connection.execute(
        text("""
            INSERT INTO model.training_run_submission (training_run_id, submission_id, fold)
            SELECT :run, s.submission_id, given.fold
            FROM unnest(CAST(:ids AS bigint[]), CAST(:folds AS text[])) AS given(submission_id, fold)
            JOIN ingest.submission s USING (submission_id)
            ORDER BY s.submission_id FOR KEY SHARE OF s
        """),
        {"run": training_run_id, "ids": list(folds), "folds": list(folds.values())},
    )
    return added.rowcount == len(folds)
