"""The verb retrain."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workers.cli.main import app, parse_only
from workers.cli.printing import print_json, print_table, progress_bar, remark, say

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Engine as Database

    from db.retraining import BusyRun
    from workers.dueness import Standing
    from workers.lessons import History
    from workers.retraining import Retrainer
    from workers.settings import Settings
    from workers.succession import Retrained


#: How far a scheduled retraining steps back for the workers of its machine.
_BEHIND_SCORING = 10


@app.command()
def retrain(
    item: Annotated[list[str] | None, typer.Argument(help="items to retrain, due or not")] = None,
    due: Annotated[bool, typer.Option("--due", help="retrain what the policy calls due")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only show how every item stands")] = False,
    history: Annotated[
        Path | None,
        typer.Option(help="human-scored answers beside those in the ledger, as `train` reads them"),
    ] = None,
    source: Annotated[str, typer.Option(help="source whose students the history file names")] = "file",
    only: Annotated[list[str] | None, typer.Option(help="only history rows with name=value")] = None,
    policy: Annotated[Path | None, typer.Option(help="thresholds; see docs/policy.md")] = None,
    period: Annotated[
        str | None,
        typer.Option(help="an item is retrained once a period; the night that began last by default"),
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="passes over the answers at most")] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads")] = 2,
    scheduled: Annotated[bool, typer.Option("--scheduled", hidden=True)] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Retrain items on what people have read since, and let the policy decide about the challengers.

    An item is due when enough new human scores are in the ledger, when the shares of its levels drift, or
    when its agreement falls. Each challenger is held against the champion on answers that neither learned
    from. Safe to run twice, to kill, and to run on several machines: an item is retrained once a period.
    """
    from db.session import make_engine
    from scoring.config import TrainingConfig
    from scoring.errors import InvalidInputError
    from workers.dueness import standings
    from workers.nightly import skip_retraining
    from workers.periods import current_period
    from workers.places import database_url
    from workers.policies import find_policy
    from workers.retraining import Retrainer
    from workers.settings import load_settings
    from workers.telemetry import configure_logging

    if dry_run + due + bool(item) != 1:
        raise InvalidInputError("say --due, or name items, or --dry-run to see how all of them stand")
    settings = load_settings()
    rules, database = find_policy(settings, policy), make_engine(database_url(settings))
    period = period or current_period(settings.night)
    if dry_run:
        _show_standings(standings(database, rules), as_json=as_json)
        return
    if scheduled:
        configure_logging(settings.telemetry)
        os.nice(_BEHIND_SCORING)
        if not rules.retraining.automatic:
            skip_retraining(database, period)
            return
    retrainer = Retrainer(
        database,
        settings,
        rules,
        config=TrainingConfig(),
        max_epochs=epochs,
        history=None if history is None else _history(database, settings, history, source, parse_only(only)),
        num_threads=threads,
    )
    done = _run(retrainer, item or [], period)
    _show(done, _busy(database), as_json=as_json)
    raise typer.Exit(3 if any(one.error for one in done) else 0)


def _run(retrainer: Retrainer, item_ids: list[str], period: str) -> list[Retrained]:
    with progress_bar(unit="epochs") as bar:
        line = bar.add_task("retraining", total=None)

        def told(item_id: str, num_done: int, num_epochs: int) -> None:
            bar.update(line, completed=num_done, total=num_epochs, description=f"retraining {item_id}")

        if item_ids:
            return list(retrainer.run(dict.fromkeys(item_ids, "manual"), period, progress=told))
        return list(retrainer.run_due(period, progress=told))


def _history(
    database: Database, settings: Settings, path: Path, source: str, only: Mapping[str, str] | None
) -> History:
    from db import registry
    from workers.lessons import History
    from workers.training import read_training_data
    from workers.writer import database_errors

    with database_errors(), database.connect() as connection:
        items = registry.load_items(connection)
    data = read_training_data(path, items, settings, only=only)
    for row in data.rejected[:20]:
        remark(f"{path}: line {row.line}: {row.detail} ({row.reason})", style="yellow")
    return History(data.answers, data.file_name, data.file_sha256, source)


def _busy(database: Database) -> list[BusyRun]:
    from db import retraining
    from workers.writer import database_errors

    with database_errors(), database.connect() as connection:
        return retraining.busy(connection)


def _show(done: list[Retrained], busy: list[BusyRun], *, as_json: bool) -> None:
    if as_json:
        print_json({"retrained": done, "busy": busy})
        return
    rows = [
        (one.item_id, one.trigger, one.training_run_id, one.scorer_id, one.verdict, one.decision)
        for one in done
    ]
    if rows:
        print_table(("item", "because of", "run", "scorer", "verdict", "now"), rows)
    else:
        say("nothing was due")
    for one in done:
        if one.error is not None:
            remark(f"error: {one.item_id}: {one.error}", style="red")
    for other in busy:
        remark(
            f"{other.item_id}: being retrained by {other.worker}, lease until {other.lease_until:%H:%M:%S}"
        )


def _show_standings(found: list[Standing], *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    rows = [
        (
            one.item_id,
            one.trigger is not None,
            one.reason,
            one.num_readable,
            one.num_new,
            one.psi,
            one.qwk_drop,
        )
        for one in found
    ]
    print_table(("item", "due", "why", "read", "new", "PSI", "QWK drop"), rows)
