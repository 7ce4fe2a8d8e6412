"""Verbs for merges: run, list, show, shadow, approve, reject, rollback, pin, unpin, pins."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workers.cli.main import app
from workers.cli.merge_tables import show_decided, show_detail, show_night, show_standing
from workers.cli.options import MAX_NUMBER, some_words
from workers.cli.printing import print_json, print_table, progress_bar, say

if TYPE_CHECKING:
    from sqlalchemy import Engine as Database

    from db.merges import Word
    from scoring.evaluation.policy import Policy
    from workers.merging.night import MergeNight, Night
    from workers.settings import Settings

merges = typer.Typer(help="Let items share an extractor: propose, try, approve, undo.", no_args_is_help=True)
app.add_typer(merges, name="merges")

AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="check and show, change nothing")]
Reason = Annotated[
    str, typer.Option(help="why; kept with the proposal and in the audit", callback=some_words)
]
Actor = Annotated[str | None, typer.Option(help="on whose word; by default who runs this")]
Number = Annotated[
    int, typer.Argument(min=1, max=MAX_NUMBER, help="the proposal's number, as `merges list` shows it")
]
PolicyFile = Annotated[Path | None, typer.Option(help="thresholds; see docs/policy.md")]

#: How far a scheduled run steps back for the workers of its machine.
_BEHIND_SCORING = 10


@merges.command()
def run(
    period: Annotated[
        str | None, typer.Option(help="one run a period; the night that began last by default")
    ] = None,
    policy: PolicyFile = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads")] = 1,
    scheduled: Annotated[bool, typer.Option("--scheduled", hidden=True)] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Compare all items, try the groups that are near, and propose what costs next to nothing.

    Safe to run twice, to kill, and to run on several machines: a period is done once, and a run whose process
    died goes on where it stood. Nothing is promoted but what a person approved, or the policy by its rules.
    """
    from workers.merging.night import MergeNight
    from workers.nightly import skip_merging
    from workers.periods import current_period
    from workers.telemetry import configure_logging

    database, settings, rules = _opened(policy)
    period = period or current_period(settings.night)
    if dry_run:
        show_standing(database, settings, as_json=as_json)
        return
    if scheduled:
        configure_logging(settings.telemetry)
        os.nice(_BEHIND_SCORING)
        if not rules.merging.automatic:
            skip_merging(database, period)
            return
    night = MergeNight(database, settings, rules, num_threads=threads)
    done = _run(night, period, trigger="schedule" if scheduled else "manual")
    show_night(database, done, period, as_json=as_json)
    raise typer.Exit(3 if done is not None and done.error else 0)


@merges.command("list")
def list_merges(
    every: Annotated[bool, typer.Option("--all", help="also what has been decided")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the proposals that wait for a decision, newest first."""
    from db import merge_reads
    from db.models.merge import PENDING
    from workers.writer import database_errors

    database, _, _ = _opened()
    with database_errors(), database.connect() as connection:
        found = merge_reads.listed(connection, states=() if every else PENDING)
    if as_json:
        print_json(found)
        return
    columns = ("merge_proposal_id", "state", "kind", "verdict", "num_answers", "qwk_change")
    rows = [(" + ".join(one["items"]), *(one[name] for name in columns)) for one in found]
    print_table(("items", "proposal", "state", "kind", "verdict", "read", "QWK change"), rows)


@merges.command()
def show(number: Number, as_json: AsJson = False) -> None:
    """Show one proposal: evidence item by item, what it would change, what was near, who decided what."""
    from db import merge_reads
    from scoring.errors import InvalidInputError
    from workers.writer import database_errors

    database, _, _ = _opened()
    with database_errors(), database.connect() as connection:
        found = merge_reads.detail(connection, number)
    if found is None:
        raise InvalidInputError(f"proposal {number}: there is none; `scorefold merges list --all` shows all")
    if as_json:
        print_json(found)
    else:
        show_detail(found)


@merges.command()
def shadow(
    number: Number, reason: Reason, actor: Actor = None, dry_run: DryRun = False, as_json: AsJson = False
) -> None:
    """Let a proposal's scorers score beside the champions; graders do not see their scores."""
    from workers.merging import decisions

    database, _, _ = _opened()
    done = decisions.start_shadow(database, number, word=_word(actor, reason), dry_run=dry_run)
    show_decided(done, as_json=as_json)


@merges.command()
def approve(
    number: Number,
    reason: Reason,
    actor: Actor = None,
    early: Annotated[bool, typer.Option("--early", help="before the shadow period is over")] = False,
    tonight: Annotated[bool, typer.Option("--tonight", help="let the next nightly run promote")] = False,
    policy: PolicyFile = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Approve a proposal: its scorers become the champions of all its items at once.

    Only what was measured: if an item has another champion since, it is refused. Each scorer is first loaded
    here as a worker would load it.
    """
    from workers.merging import decisions

    database, settings, rules = _opened(policy)
    done = decisions.approve(
        database,
        settings,
        number,
        policy=None if early else rules.merging,
        word=_word(actor, reason),
        at_night=tonight,
        dry_run=dry_run,
    )
    show_decided(done, as_json=as_json)


@merges.command()
def reject(
    number: Number, reason: Reason, actor: Actor = None, dry_run: DryRun = False, as_json: AsJson = False
) -> None:
    """Reject a proposal; the same group is not tried again until one of its items has another scorer."""
    from workers.merging import decisions

    database, _, _ = _opened()
    show_decided(
        decisions.reject(database, number, word=_word(actor, reason), dry_run=dry_run), as_json=as_json
    )


@merges.command()
def rollback(
    number: Number, reason: Reason, actor: Actor = None, dry_run: DryRun = False, as_json: AsJson = False
) -> None:
    """Undo a promoted merge: the aliases of all its items stand exactly as before it."""
    from workers.merging import decisions

    database, _, _ = _opened()
    show_decided(
        decisions.rollback(database, number, word=_word(actor, reason), dry_run=dry_run), as_json=as_json
    )


@merges.command()
def pin(
    item: Annotated[list[str], typer.Argument(help="two items, or one with --alone")],
    reason: Reason,
    together: Annotated[bool, typer.Option("--together", help="always in one group")] = False,
    apart: Annotated[bool, typer.Option("--apart", help="never in one group")] = False,
    alone: Annotated[bool, typer.Option("--alone", help="never in any group")] = False,
    actor: Actor = None,
) -> None:
    """Say that two items belong together or apart, or that one is never merged; from the next night on."""
    from scoring.errors import InvalidInputError
    from workers.merging import decisions

    chosen = [kind for kind, wanted in (("together", together), ("apart", apart), ("alone", alone)) if wanted]
    if len(chosen) != 1 or len(set(item)) != (1 if alone else 2):
        raise InvalidInputError("name two items with --together or --apart, or one with --alone")
    database, _, _ = _opened()
    decisions.pin(database, item, chosen[0], word=_word(actor, reason))
    say(f"{' and '.join(item)}: pinned {chosen[0]}")


@merges.command()
def unpin(item: Annotated[list[str], typer.Argument(help="the items of the pin")]) -> None:
    """Take a pin away."""
    from scoring.errors import InvalidInputError
    from workers.merging import decisions

    if len(item) > 2:
        raise InvalidInputError("a pin has one or two items")
    database, _, _ = _opened()
    decisions.unpin(database, item)
    say(f"{' and '.join(item)}: no longer pinned")


@merges.command()
def pins(as_json: AsJson = False) -> None:
    """Show all pins."""
    from db import pins as rows
    from workers.writer import database_errors

    database, _, _ = _opened()
    with database_errors(), database.connect() as connection:
        found = rows.pins(connection)
    if as_json:
        print_json(found)
        return
    told = [
        (one.first, None if one.kind == "alone" else one.second, one.kind, one.set_by, one.reason)
        for one in found
    ]
    print_table(("item", "and", "pinned", "by", "why"), told)


def _opened(policy: Path | None = None) -> tuple[Database, Settings, Policy]:
    from db.session import make_engine
    from workers.places import database_url
    from workers.policies import find_policy
    from workers.settings import load_settings

    settings = load_settings()
    return make_engine(database_url(settings)), settings, find_policy(settings, policy)


def _word(actor: str | None, reason: str) -> Word:
    from db.merges import Word
    from workers.models import current_user

    return Word(actor or current_user(), reason)


def _run(night: MergeNight, period: str, *, trigger: str) -> Night | None:
    with progress_bar(unit="steps") as bar:
        line = bar.add_task("beginning", total=None)

        def told(what: str, num_done: int, num_steps: int) -> None:
            bar.update(line, completed=num_done, total=num_steps, description=what)

        return night.run(period, trigger=trigger, progress=told)
