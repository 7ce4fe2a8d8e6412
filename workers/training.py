"""Trains items one after another on one shared backbone, and registers what comes of it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from db import registry
from scoring.artifacts import ArtifactStore
from scoring.backbone import Backbone
from scoring.engines.torch import pick_device, use_threads
from scoring.errors import InvalidInputError, PermanentError, ScorefoldError
from scoring.training.finetuning import train_item
from workers.importers import answers, files
from workers.importers.answers import LabelledRow
from workers.roster import spec_of
from workers.telemetry import get_logger
from workers.writer import database_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from sqlalchemy import Engine as Database

    from db.intake import RejectedRow
    from db.registry import ItemRecord
    from scoring.config import TrainingConfig
    from scoring.types import LabelledAnswer, TrainingReport
    from workers.settings import Settings

log = get_logger("training")


@dataclass(frozen=True, slots=True)
class TrainingData:
    """Human-scored answers by item, the rows refused, and the file's identity."""

    answers: Mapping[str, Sequence[LabelledAnswer]]
    rejected: Sequence[RejectedRow]
    file_name: str
    file_sha256: str


@dataclass(frozen=True, slots=True)
class TrainedItem:
    """One item's outcome: a scorer, or the reason why there is none."""

    item_id: str
    report: TrainingReport | None
    scorer_id: int | None
    is_champion: bool
    error: str | None


def read_training_data(
    path: Path,
    items: Mapping[str, ItemRecord],
    settings: Settings,
    *,
    only: Mapping[str, str] | None = None,
    wanted: Sequence[str] = (),
) -> TrainingData:
    """Read human-scored answers.

    Raises:
        InvalidInputError: the file cannot be read, or it has nothing for any (wanted) item.
    """
    source = files.inspect(path)
    records = files.read_records(
        source, required=answers.LABELLED_FIELDS, max_line_bytes=settings.intake.max_line_bytes, only=only
    )
    traits = {item_id: [trait.trait for trait in item.traits] for item_id, item in items.items()}
    found: defaultdict[str, list[LabelledAnswer]] = defaultdict(list)
    rejected: list[RejectedRow] = []
    for row in answers.labelled(records, traits, max_text_chars=settings.intake.max_text_chars):
        if not isinstance(row, LabelledRow):
            rejected.append(row)
        elif not wanted or row.item_id in wanted:
            found[row.item_id].append(row.answer)
    missing = [item_id for item_id in wanted if item_id not in found]
    if missing or not found:
        reason = f"; the first refused row: line {rejected[0].line}: {rejected[0].detail}" if rejected else ""
        what = f"for item {missing[0]}" if missing else "to learn from"
        raise InvalidInputError(f"{path}: no scored answer {what}{reason}")
    return TrainingData(dict(found), rejected, path.name, source.sha256)


def train_items(
    database: Database,
    data: TrainingData,
    settings: Settings,
    *,
    config: TrainingConfig,
    promote: bool | None = None,
    num_threads: int = 2,
    progress: Callable[[str, int, int], None] | None = None,
) -> Iterator[TrainedItem]:
    """Train every item of the data and register its scorer.

    Args:
        database: the registry.
        data: human-scored answers by item.
        settings: backbone and artifact store.
        config: the recipe.
        promote: make the new scorers champions; None does so only for items that have none.
        num_threads: CPU threads to train with.
        progress: told (item, epochs done, epochs at most) after each epoch.

    Yields:
        One outcome an item; a failing item does not stop the others.
    """
    use_threads(num_threads)
    backbone = Backbone.load(settings.backbone.name, device=pick_device(settings.engine.device))
    store = ArtifactStore(settings.artifact_url())
    with database_errors(), database.connect() as connection:
        items = registry.load_items(connection)
    for item_id in sorted(data.answers):
        run = _begin(database, item_id, config, data)
        try:
            report = train_item(
                spec_of(items[item_id]),
                data.answers[item_id],
                backbone=backbone,
                store=store,
                config=config,
                progress=_told(progress, item_id, config),
            )
        except ScorefoldError as error:
            with database_errors(), database.begin() as connection:
                registry.fail_training(connection, run, str(error))
            if not isinstance(error, PermanentError):
                raise
            yield TrainedItem(item_id, None, None, is_champion=False, error=str(error))
        else:
            yield _register(database, report, run, promote=promote)


def _begin(database: Database, item_id: str, config: TrainingConfig, data: TrainingData) -> int:
    about = {
        "file": data.file_name,
        "sha256": data.file_sha256,
        "num_answers": len(data.answers[item_id]),
    }
    with database_errors(), database.begin() as connection:
        return registry.start_training(
            connection, item_id, trigger="manual", config=asdict(config), data=about
        )


def _told(
    progress: Callable[[str, int, int], None] | None, item_id: str, config: TrainingConfig
) -> Callable[[object], None] | None:
    if progress is None:
        return None
    told, num_done = progress, iter(range(1, config.max_epochs + 1))
    return lambda _epoch: told(item_id, next(num_done, config.max_epochs), config.max_epochs)


def _register(database: Database, report: TrainingReport, run: int, *, promote: bool | None) -> TrainedItem:
    record = registry.ScorerRecord(
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
        metrics={"test": [asdict(one) for one in report.metrics], "num_test": report.num_test},
        training_run_id=run,
    )
    with database_errors(), database.begin() as connection:
        scorer_id = registry.register_scorer(connection, record)
        has_champion = registry.has_champion(connection, report.item_id)
        crowned = promote if promote is not None else not has_champion
        if crowned:
            registry.promote(connection, [scorer_id], actor="train", reason=f"training run {run}")
    log.info("item_trained", item=report.item_id, scorer=scorer_id, champion=crowned)
    return TrainedItem(report.item_id, report, scorer_id, is_champion=crowned, error=None)
