"""Verbs of the flow: submit, scores, humans import."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workers.cli.main import app, keep_apart, parse_only
from workers.cli.options import OneBatch, RowLimit, Source  # noqa: TC001 (typer asks for it)
from workers.cli.printing import print_json, print_table, progress_bar, remark, say

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Engine as Database

    from db.intake import IntakeReport, RejectedRow
    from db.reads import BatchProgress
    from workers.settings import Settings

#: Done, but some rows were refused.
_PARTLY = 3

humans = typer.Typer(help="Take in human scores.", no_args_is_help=True)
app.add_typer(humans, name="humans")

Only = Annotated[list[str] | None, typer.Option(help="only rows with name=value")]
Sources = Annotated[Path | None, typer.Option(help="TOML file of what is known about each source")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="judge every row, accept none")]


@app.command()
def submit(
    file: Annotated[Path, typer.Argument(help="answers, CSV, JSON lines or Parquet, or an LMS export")],
    source: Source = "file",
    sources: Sources = None,
    rejects: Annotated[Path | None, typer.Option(help="write refused rows to this CSV file")] = None,
    only: Only = None,
    strict: Annotated[bool, typer.Option("--strict", help="refuse the file if any row is refused")] = False,
    dry_run: DryRun = False,
    wait: Annotated[bool, typer.Option("--wait", help="stay until every answer is settled")] = False,
    as_json: AsJson = False,
) -> None:
    """Accept a file of answers and send them to the workers.

    Columns: response_id, item_id, text; and where known attempt, student_id, submitted_at. The key
    (source, response_id, attempt) makes it idempotent: the same row again adds nothing, the same key with
    another text is refused as a conflict. Exports of Canvas, Moodle, D2L and Blackboard are known by their
    header; docs/administrators.md says how to name their items and time zone. Refused rows are listed and
    kept in ingest.reject; the others are accepted (exit code 3), unless --strict.
    """
    from db.session import make_engine
    from workers.importers.sources import load_source
    from workers.intake import Reading, submit_file
    from workers.places import database_url
    from workers.settings import load_settings

    keep_apart({"--rejects": rejects}, {"FILE": file, "--sources": sources})
    settings = load_settings()
    passed_over: Counter[str] = Counter()
    reading = Reading(
        settings=load_source(sources, source),
        only=parse_only(only),
        rejects=rejects,
        on_passed_over=lambda question: passed_over.update([question]),
    )
    database = make_engine(database_url(settings), statement_timeout_s=None)
    with progress_bar() as bar:
        line = bar.add_task(f"reading {file.name}", total=_num_bytes(file))
        report = submit_file(
            database,
            file,
            source=source,
            limits=settings.intake,
            reading=reading,
            mode="dry_run" if dry_run else "strict" if strict else "accept",
            progress=lambda num_bytes: bar.update(line, completed=num_bytes),
        )
    if not dry_run:
        _dispatch(database, settings)
    value = {"dry_run": dry_run, **asdict(report), "passed_over": dict(passed_over)}
    if dry_run:
        value["batch_id"] = None  # the one that was drawn has been rolled back
    waits = wait and not dry_run
    if waits or not as_json:
        _show_report(file, report, passed_over, dry_run=dry_run, tell=remark if as_json else say)
    if waits:
        batch = _wait(database, report.batch_id)
        value |= asdict(batch)
        if not as_json:
            say(f"{batch.num_scored} scored, {batch.num_quarantined} quarantined")
    if as_json:
        print_json(value)
    raise typer.Exit(_PARTLY if report.num_rejected + report.num_conflicts else 0)


@app.command()
def scores(
    batch: OneBatch = None,
    item: Annotated[str | None, typer.Option(help="one item only")] = None,
    summary: Annotated[
        bool, typer.Option("--summary", help="per item of the newest (or given) batch")
    ] = False,
    limit: RowLimit = 20,
    as_json: AsJson = False,
) -> None:
    """Show scores, or per item how well they agree.

    With --summary: answers, share needing review, agreement with human reads, for each item.
    """
    from db import reads
    from db.session import make_engine
    from scoring.errors import InvalidInputError
    from workers.places import database_url
    from workers.settings import load_settings
    from workers.writer import database_errors

    database = make_engine(database_url(load_settings()))
    with database_errors(), database.connect() as connection:
        if not summary:
            found = reads.scores(connection, batch_id=batch, item_id=item, limit=limit)
            columns = ("response_id", "item_id", "trait", "level", "given_by", "condition_code", "confidence")
            if as_json:
                print_json(found)
            else:
                print_table(columns, [[row[name] for name in columns] for row in found])
            return
        newest = reads.batches(connection, batch_id=batch, limit=1)
        if not newest:
            raise InvalidInputError(
                "there is no batch yet" if batch is None else f"there is no batch {batch}"
            )
        items = [
            one
            for one in reads.summary(connection, batch_ids=[newest[0].batch_id])
            if item is None or one.item_id == item
        ]
    if as_json:
        print_json(items)
        return
    rows = [
        (
            one.item_id,
            one.trait,
            one.num_answers,
            one.num_condition_codes,
            f"{100 * one.num_needing_review / one.num_answers:.0f}%",
            one.num_pairs,
            one.qwk,
            one.exact,
        )
        for one in items
    ]
    print_table(("item", "trait", "answers", "codes", "review", "human", "QWK", "exact"), rows)


@humans.command("import")
def import_humans(
    file: Annotated[Path, typer.Argument(help="human scores, CSV or JSON lines")],
    source: Source = "file",
    rater: Annotated[str, typer.Option(help="who gave the scores")] = "human",
    purpose: Annotated[
        str, typer.Option(help="first, second, read_behind, adjudication, appeal or training")
    ] = "first",
    only: Only = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Take in human scores of answers that are in the ledger.

    Columns: response_id, score; and attempt, trait where there are several. Or JSON lines with `scores`
    by trait. A human score always wins over the machine's.
    """
    from db.models.score import PURPOSES
    from db.session import make_engine
    from workers.intake import HumanOrigin, import_human_scores
    from workers.places import database_url
    from workers.settings import load_settings

    if purpose not in PURPOSES:
        raise typer.BadParameter(f"--purpose {purpose}: one of {', '.join(PURPOSES)}")
    settings = load_settings()
    report = import_human_scores(
        make_engine(database_url(settings), statement_timeout_s=None),
        file,
        origin=HumanOrigin(source, rater, purpose),
        limits=settings.intake,
        only=parse_only(only),
        dry_run=dry_run,
    )
    if as_json:
        print_json(report)
    else:
        word = "would be" if dry_run else "are"
        say(
            f"{report.num_rows} scores read: {report.num_new} {word} new, {report.num_repeated} known,"
            f" {report.num_rejected} refused"
        )
        _show_refused(file, report.examples, report.num_rejected)
    raise typer.Exit(_PARTLY if report.num_rejected else 0)


def _num_bytes(file: Path) -> int | None:
    try:
        return file.stat().st_size
    except OSError:
        return None  # whoever reads it says why


def _dispatch(database: Database, settings: Settings) -> None:
    from scoring.errors import FatalError, TransientError
    from workers.app import BrokerPublisher, make_app
    from workers.dispatch import Dispatcher, dispatch_policy
    from workers.writer import database_errors

    try:
        publisher = BrokerPublisher(make_app(settings), settings)
        dispatcher = Dispatcher(database, publisher, dispatch_policy(settings))
        with database_errors():
            while dispatcher.dispatch():
                pass
    except (TransientError, FatalError) as error:
        # Accepted is accepted: a worker's repair round sends what could not be sent now.
        remark(f"accepted, not yet sent: {error}; workers will pick it up", style="yellow")


def _show_report(
    file: Path, report: IntakeReport, passed_over: Counter[str], *, dry_run: bool, tell: Callable[[str], None]
) -> None:
    word = "would be" if dry_run else "are"
    batch = "no batch" if dry_run else f"batch {report.batch_id}"
    tell(
        f"{batch}, {report.file_format}: {report.num_rows} rows read,"
        f" {report.num_new} {word} new, {report.num_accepted - report.num_new} known already,"
        f" {report.num_repeated} repeated, {report.num_conflicts} in conflict, {report.num_rejected} rejected"
    )
    _show_refused(file, report.examples, report.num_conflicts + report.num_rejected)
    if passed_over:
        names = ", ".join(" ".join(name.split())[:40] for name in list(passed_over)[:5])
        remark(
            f"{passed_over.total()} answers to {len(passed_over)} questions that the source's items do not"
            f" name are passed over: {names}{', ...' if len(passed_over) > 5 else ''}"
        )


def _show_refused(file: Path, examples: Sequence[RejectedRow], num_refused: int) -> None:
    for row in examples:
        remark(
            f"{file}: line {row.line}: {row.detail} ({row.reason})",
            style="yellow",
        )
    if num_refused > len(examples):
        remark(f"... and {num_refused - len(examples)} more", style="yellow")


def _wait(database: Database, batch_id: int) -> BatchProgress:
    from workers.watch import wait_for_batch

    with progress_bar(unit="answers") as bar:
        line = bar.add_task("scoring", total=None)
        (batch,) = wait_for_batch(
            database,
            batch_id=batch_id,
            on_progress=lambda settled, accepted: bar.update(line, completed=settled, total=accepted),
        )
    return batch
