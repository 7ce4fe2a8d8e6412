"""A night from nothing: servers, items, training, two workers, two exports, human scores, a report.

Everything here is what a user would do by hand with the command line, in the same order.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from db import migrate, reads, registry
from db.session import make_engine
from scoring.config import TrainingConfig
from scoring.errors import InvalidInputError
from workers import places
from workers.app import BrokerPublisher, make_app
from workers.demo.corpus import write_corpus
from workers.demo.fleet import running_workers
from workers.dispatch import Dispatcher, dispatch_policy
from workers.embedded import services
from workers.importers.sources import load_source
from workers.intake import HumanOrigin, Reading, import_human_scores, submit_file
from workers.items import read_items
from workers.report.morning import write_report
from workers.training import read_training_data, train_items
from workers.watch import wait_for_batch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from sqlalchemy import Engine as Database

    from db.intake import IntakeReport
    from db.reads import BatchTotals, ItemSummary
    from workers.demo.corpus import CorpusFiles
    from workers.demo.corpus_export import ExportFile
    from workers.settings import Settings

_CORPUS_SEED = 7
_FIRST_SOURCE = "canvas"

#: Seven of the corpus' items keep the demo within five minutes: five ordinal ones (0-2 and 0-3, one of
#: them German), two neighbours that a merge would find, and one with four traits.
ITEM_IDS = (
    "sci-puddle",
    "sci-laundry",
    "his-canal",
    "mat-spinner",
    "rea-lantern",
    "nat-eis",
    "sci-ramp",
)

#: Made-up answers are easy to tell apart: half of the layers and a few passes do.
_RECIPE = TrainingConfig(num_adapted_layers=3, adapter_lr=1e-3, min_steps=0)


@dataclass(frozen=True, slots=True)
class DemoSize:
    """How much there is to learn from and to score."""

    num_history_per_item: int = 200
    num_nightly: int = 3200
    num_workers: int = 2


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What one demo night gave; every number is read back from Postgres."""

    batch_ids: tuple[int, ...]
    totals: BatchTotals
    items: list[ItemSummary]
    seconds: float
    report: Path


class Stage:
    """Tells what the demo is doing: a headline for each step, and progress inside it."""

    def __init__(self, headline: Callable[[str], None], progress: Callable[[int, int], None]) -> None:
        self.headline = headline
        self.progress = progress


def run_demo(settings: Settings, size: DemoSize, stage: Stage) -> DemoResult:
    """Run one demo night; run again, it is the next night, and what was trained is kept.

    Args:
        settings: the home folder holds everything; servers named in the settings are used instead.
        size: answers and workers.
        stage: where the progress goes.

    Raises:
        ScorefoldError: a step failed; one line says which and why.
    """
    started = time.monotonic()
    if places.needs_embedded(settings):
        stage.headline("starting Postgres and Redis")
        services.up(settings.home.path)
    url = places.database_url(settings)
    migrate.upgrade(url)
    database = make_engine(url, statement_timeout_s=None)
    night = _next_night(database)
    folder = settings.home.path / f"night-{night}"
    stage.headline(f"writing night {night}: {size.num_nightly} answers of made-up students to {folder}")
    corpus = write_corpus(
        folder,
        seed=_CORPUS_SEED + night,
        num_history_per_item=size.num_history_per_item,
        num_nightly=size.num_nightly,
        item_ids=ITEM_IDS,
    )
    _load_items(database, corpus)
    _train_missing(database, corpus, settings, stage)
    batch_ids = _score_night(database, corpus, settings, size, stage)
    with database.connect() as connection:
        totals = reads.totals(connection, batch_ids=batch_ids)
        items = reads.summary(connection, batch_ids=batch_ids)
    stage.headline("writing the morning's report")
    report = write_report(database, settings)
    return DemoResult(batch_ids, totals, items, time.monotonic() - started, report)


def last_line(result: DemoResult) -> dict[str, float]:
    """The one JSON object that ends the demo."""
    qwks = [item.qwk for item in result.items if item.qwk is not None]
    totals = asdict(result.totals)
    return {
        **totals,
        "mean_qwk": round(sum(qwks) / len(qwks), 4) if qwks else float("nan"),
        "seconds": round(result.seconds, 1),
    }


def _next_night(database: Database) -> int:
    with database.connect() as connection:
        return 1 + sum(batch.source == _FIRST_SOURCE for batch in reads.batches(connection, limit=10_000))


def _load_items(database: Database, corpus: CorpusFiles) -> None:
    with database.begin() as connection:
        registry.save_items(connection, read_items(corpus.items))


def _train_missing(database: Database, corpus: CorpusFiles, settings: Settings, stage: Stage) -> None:
    with database.connect() as connection:
        items = registry.load_items(connection)
        missing = [item_id for item_id in items if not registry.has_champion(connection, item_id)]
    if not missing:
        stage.headline("all items have a scorer from an earlier night")
        return
    stage.headline(f"training an adapter and a head for each of {len(missing)} items")
    data = read_training_data(corpus.history, items, settings, wanted=missing)
    for one in train_items(database, data, settings, config=_RECIPE, progress=stage.progress):
        if one.error is not None:
            raise InvalidInputError(f"item {one.item_id} could not be trained: {one.error}")


def _score_night(
    database: Database, corpus: CorpusFiles, settings: Settings, size: DemoSize, stage: Stage
) -> tuple[int, ...]:
    with ExitStack() as stack:
        stage.headline(f"starting {size.num_workers} workers")
        fleet = stack.enter_context(running_workers(settings, num_workers=size.num_workers))
        reports = [_submit(database, corpus, export, settings, stage) for export in corpus.exports]
        publisher = BrokerPublisher(make_app(settings), settings)
        Dispatcher(database, publisher, dispatch_policy(settings)).dispatch()
        stage.headline(f"scoring {sum(report.num_accepted for report in reports)} answers")
        for report in reports:
            wait_for_batch(
                database, batch_id=report.batch_id, on_progress=stage.progress, check=fleet.require_alive
            )
    stage.headline("taking in the human scores of that night")
    for export in corpus.exports:
        origin = HumanOrigin(export.source, rater="demo readers", purpose="first")
        import_human_scores(database, export.human, origin=origin, limits=settings.intake)
    return tuple(report.batch_id for report in reports)


def _submit(
    database: Database, corpus: CorpusFiles, export: ExportFile, settings: Settings, stage: Stage
) -> IntakeReport:
    reading = Reading(settings=load_source(corpus.sources, export.source))
    report = submit_file(database, export.path, source=export.source, limits=settings.intake, reading=reading)
    stage.headline(
        f"{export.path.name}, {report.file_format}: {report.num_accepted} answers accepted,"
        f" {report.num_repeated} repeated, {report.num_rejected + report.num_conflicts} refused"
    )
    return report


def try_lines(settings: Settings, batch_ids: Sequence[int]) -> tuple[list[str] | None, list[str]]:
    """A psql line (where the servers are ours) and three SELECTs that work on this night."""
    listed = ", ".join(map(str, batch_ids))
    psql = services.psql_command(settings.home.path) if settings.database.url is None else None
    return psql, [
        f"SELECT * FROM grader.batches WHERE batch_id IN ({listed});",
        "SELECT item_id, trait, num_pairs, round(qwk::numeric, 3) AS qwk FROM grader.agreement ORDER BY qwk;",
        f"""SELECT response_id, item_id, trait, level, given_by, confidence FROM grader.scores
            WHERE batch_id IN ({listed}) AND needs_review ORDER BY confidence NULLS FIRST LIMIT 10;""",
    ]


def worker_log(settings: Settings) -> Path:
    """Where the demo's workers write."""
    return settings.home.path / "logs"
