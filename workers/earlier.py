"""What an earlier training left: the same answers and the same recipe are not trained twice.

Training is the same for the same answers, recipe, seed and backbone, so a run that was killed goes on with
the items that it had not finished.
"""

from __future__ import annotations

from dataclasses import asdict
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from db import trainings
from scoring.errors import PermanentError
from scoring.types import ScorerKey
from workers.telemetry import get_logger
from workers.writer import database_errors

if TYPE_CHECKING:
    from sqlalchemy import Engine as Database

    from scoring.types import TrainingReport
    from workers.settings import Settings
    from workers.trainers import TrainingJob

log = get_logger("training")


def identity(job: TrainingJob) -> dict[str, Any]:
    """What decides, beside recipe and backbone, what a training comes to."""
    from scoring.training.examples import data_digest

    return {"answers_sha256": data_digest(job.answers), "scorefold": version("scorefold")}


def left_by(database: Database, job: TrainingJob, settings: Settings) -> tuple[int, TrainingReport] | None:
    """The scorer that an earlier run of the same training left, whole and readable, and its report.

    Raises:
        BackboneUnavailableError: the backbone's files are not there.
        StoreUnavailableError: the artifact store does not answer.
    """
    from scoring.artifacts import ArtifactStore
    from scoring.backbone import content_revision, resolve_backbone
    from scoring.training.storing import stored_report

    revision = content_revision(resolve_backbone(settings.backbone.name))
    item_id, config = job.item.item_id, asdict(job.config)
    with database_errors(), database.begin() as connection:
        trainings.end_stale(connection, item_id, config=config, data=identity(job))
        found = trainings.finished(connection, item_id, config=config, data=identity(job), revision=revision)
    if found is None:
        return None
    scorer_id, key = found
    try:
        return scorer_id, stored_report(ArtifactStore(settings.artifact_url()), ScorerKey(key))
    except PermanentError as error:
        log.warning("scorer_lost", item=item_id, scorer=scorer_id, reason=str(error))
        return None
