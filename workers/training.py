"""Human-scored answers in, registered scorers out; the training itself runs in processes of its own."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from db import aliases, registry
from scoring.errors import FatalError, InvalidInputError, PermanentError, TransientError
from scoring.types import BaselineReport
from workers.courses import Courses
from workers.earlier import identity, left_by
from workers.importers import answers, files
from workers.importers.answers import LabelledRow
from workers.records import trained_record
from workers.roster import spec_of
from workers.telemetry import get_logger
from workers.trainers import TrainingJob, Workshop, default_num_processes, train_all
from workers.writer import database_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from sqlalchemy import Connection
    from sqlalchemy import Engine as Database

    from db.intake import RejectedRow
    from db.registry import ItemRecord
    from scoring.config import TrainingConfig
    from scoring.types import LabelledAnswer, TrainingReport
    from workers.settings import Settings
    from workers.trainers import Trained

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
    """One item's outcome: a scorer, a baseline's figures, or the reason why there is neither."""

    item_id: str
    report: Trained | None
    scorer_id: int | None
    is_champion: bool
    error: str | None
    #: Whether an earlier training of the same answers by the same recipe had left the scorer already.
    was_there: bool = False


@dataclass(frozen=True, slots=True)
class Wishes:
    """What whoever asks for a training wants beside the recipe.

    Attributes:
        promote: make the new scorers champions; None does so only for items that have none
        again: train also what the same answers and recipe have trained before
        num_processes: training processes; one a core by default
    """

    promote: bool | None = None
    again: bool = False
    num_processes: int | None = None


_NO_WISHES = Wishes()


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
    wishes: Wishes = _NO_WISHES,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Iterator[TrainedItem]:
    """Train every item of the data and register its scorer as soon as it is there.

    Args:
        database: the registry.
        data: human-scored answers by item.
        settings: backbone and artifact store.
        config: the recipe.
        wishes: what to do with what comes of it, what to leave out, how many processes to train in.
        progress: told (epochs done, epochs at most) over all items; an item that stops early counts in full.

    Yields:
        One outcome an item; a failing item does not stop the others.

    Raises:
        ScorefoldError: what stops all items alike; their runs are marked as failed.
    """
    with database_errors(), database.connect() as connection:
        items = registry.load_items(connection)
    jobs = []
    for item_id in sorted(data.answers):
        job = TrainingJob(spec_of(items[item_id]), data.answers[item_id], config)
        left = None if wishes.again else left_by(database, job, settings)
        if left is None:
            jobs.append(job)
        else:
            yield _kept(database, *left, wishes=wishes)
    if not jobs:
        return
    # A baseline is measured and let go: there is nothing to register, and no run to tell of.
    runs: dict[str, int] = {
        job.item.item_id: _begin(database, job, data) for job in jobs if config.method != "full"
    }
    workshop = Workshop(settings.backbone.name, settings.engine.device, settings.artifact_url())
    processes = wishes.num_processes or default_num_processes(len(jobs))
    courses = Courses([job.item.item_id for job in jobs], config.max_epochs, progress)
    try:
        for job, outcome in train_all(jobs, workshop, num_processes=processes, progress=courses.told):
            courses.ended(job.item.item_id)
            run = runs.pop(job.item.item_id, None)
            yield _settled(database, job, run, outcome, wishes=wishes)
    except (TransientError, FatalError) as error:
        with database_errors(), database.begin() as connection:
            for run in runs.values():
                registry.fail_training(connection, run, str(error))
        raise


def _settled(
    database: Database,
    job: TrainingJob,
    run: int | None,
    outcome: Trained | PermanentError,
    *,
    wishes: Wishes,
) -> TrainedItem:
    item_id = job.item.item_id
    if isinstance(outcome, PermanentError):
        if run is not None:
            with database_errors(), database.begin() as connection:
                registry.fail_training(connection, run, str(outcome))
        return TrainedItem(item_id, None, None, is_champion=False, error=str(outcome))
    if run is None or isinstance(outcome, BaselineReport):
        return TrainedItem(item_id, outcome, None, is_champion=False, error=None)
    return _register(database, outcome, run, wishes=wishes)


def _begin(database: Database, job: TrainingJob, data: TrainingData) -> int:
    about = {"file": data.file_name, "sha256": data.file_sha256, "num_answers": len(job.answers)}
    about |= identity(job)
    with database_errors(), database.begin() as connection:
        return registry.start_training(
            connection, job.item.item_id, trigger="manual", config=asdict(job.config), data=about
        )


def _register(database: Database, report: TrainingReport, run: int, *, wishes: Wishes) -> TrainedItem:
    with database_errors(), database.begin() as connection:
        scorer_id = registry.register_scorer(connection, trained_record(report, run))
        crowned = _crown(connection, report.item_id, scorer_id, wishes, reason=f"training run {run}")
    log.info("item_trained", item=report.item_id, scorer=scorer_id, champion=crowned)
    return TrainedItem(report.item_id, report, scorer_id, is_champion=crowned, error=None)


def _kept(database: Database, scorer_id: int, report: TrainingReport, *, wishes: Wishes) -> TrainedItem:
    with database_errors(), database.begin() as connection:
        champion = aliases.aliases_of(connection, [report.item_id])[report.item_id].get("champion")
        crowned = champion == scorer_id or _crown(
            connection, report.item_id, scorer_id, wishes, reason="trained before"
        )
    log.info("item_kept", item=report.item_id, scorer=scorer_id, champion=crowned)
    return TrainedItem(report.item_id, report, scorer_id, is_champion=crowned, error=None, was_there=True)


def _crown(connection: Connection, item_id: str, scorer_id: int, wishes: Wishes, *, reason: str) -> bool:
    crowned = wishes.promote
    if crowned is None:
        crowned = not registry.has_champion(connection, item_id)
    if crowned:
        registry.promote(connection, [scorer_id], actor="train", reason=reason)
    return crowned
