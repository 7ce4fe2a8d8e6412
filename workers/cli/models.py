"""Verbs for scorers: list, show, promote, rollback, export, import."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workers.cli.main import app
from workers.cli.options import MAX_NUMBER, some_words
from workers.cli.printing import print_json, print_table, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Engine as Database

    from db.scorers import ScorerListing
    from workers.models import Moved, Word
    from workers.settings import Settings

models = typer.Typer(help="List, promote, roll back, export and import scorers.", no_args_is_help=True)
app.add_typer(models, name="models")

ScorerNumber = Annotated[
    int,
    typer.Argument(min=1, max=MAX_NUMBER, help="the scorer's number, as `models list` shows it"),
]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="check and show, change nothing")]
Reason = Annotated[str, typer.Option(help="why; kept in the audit", callback=some_words)]
Actor = Annotated[str | None, typer.Option(help="on whose word; by default who runs this")]
Shadow = Annotated[bool, typer.Option("--shadow", help="the shadow, which graders do not see")]


@models.command("list")
def list_models(
    item: Annotated[list[str] | None, typer.Option(help="only this item; may be repeated")] = None,
    as_json: AsJson = False,
) -> None:
    """Show all scorers: item, alias, agreement on held-out answers, size and origin."""
    from db import scorers
    from workers.writer import database_errors

    database, _ = _opened()
    with database_errors(), database.connect() as connection:
        found = scorers.list_scorers(connection, item_ids=item or ())
    if as_json:
        print_json(found)
        return
    rows = [
        (
            one.item_id,
            one.scorer_id,
            ", ".join(one.aliases) or None,
            _mean_qwk(one),
            f"{one.num_bytes / 1e6:.2f}",
            one.trigger or "imported",
            one.verdict,
            f"{one.created_at:%Y-%m-%d %H:%M}",
        )
        for one in found
    ]
    print_table(("item", "scorer", "alias", "QWK", "MB", "made by", "verdict", "since"), rows)


@models.command()
def show(
    scorer: ScorerNumber,
    as_json: AsJson = False,
) -> None:
    """Show one scorer: where it lies, how it was trained and judged, and how its item's aliases moved."""
    from db import aliases, scorers
    from scoring.errors import InvalidInputError
    from workers.writer import database_errors

    database, _ = _opened()
    with database_errors(), database.connect() as connection:
        found = scorers.list_scorers(connection, scorer_ids=[scorer])
        if not found:
            raise InvalidInputError(f"scorer {scorer}: there is none; `scorefold models list` shows them")
        (one,) = found
        run = one.training_run_id
        training = None if run is None else scorers.training_run(connection, run)
        moves = aliases.moves(connection, one.item_id)
    if as_json:
        print_json({"scorer": one, "training": training, "moves": moves})
        return
    say(f"scorer {one.scorer_id} of item {one.item_id}: {', '.join(one.aliases) or 'no alias'}")
    say(f"  artifact {one.scorer_key}")
    say(f"  extractor {one.extractor_key} ({one.extractor_kind}, rank {one.rank}, {one.num_bytes:,} bytes)")
    say(f"  backbone {one.backbone} {one.backbone_revision}")
    for figures in one.metrics.get("test", ()):
        say("  held out: " + ", ".join(f"{name} {value}" for name, value in figures.items()))
    if training is not None:
        for name in ("trigger", "period", "submissions", "data", "verdict", "decision", "error"):
            if training[name]:
                say(f"  training {name}: {training[name]}")
    rows = [(f"{m['at']:%Y-%m-%d %H:%M}", m["action"], m["actor"], m["detail"].get("reason")) for m in moves]
    print_table(("moved", "how", "by", "why"), rows)


@models.command()
def promote(
    scorer: Annotated[
        list[int], typer.Argument(min=1, max=MAX_NUMBER, help="scorers' numbers, at most one an item")
    ],
    reason: Reason,
    actor: Actor = None,
    shadow: Shadow = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Make scorers the champions of their items (or shadows); workers follow between two batches.

    Each is first loaded here as a worker would load it. All move together or none does.
    """
    from workers import models as registry

    database, settings = _opened()
    role: registry.Role = "shadow" if shadow else "champion"
    moved = registry.promote(
        database, settings, scorer, role=role, word=_word(actor, reason), dry_run=dry_run
    )
    _show_moved(moved, dry_run=dry_run, as_json=as_json)


@models.command()
def rollback(
    item: Annotated[list[str], typer.Argument(help="items; all move together or none does")],
    reason: Reason,
    actor: Actor = None,
    shadow: Shadow = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Undo each item's newest promotion: its aliases stand exactly as before. Again: the one before that.

    A shadow that was set since then stays. With --shadow the newest setting of a shadow is undone instead.
    """
    from workers import models as registry

    database, _ = _opened()
    role: registry.Role = "shadow" if shadow else "champion"
    moved = registry.rollback(database, item, role=role, word=_word(actor, reason), dry_run=dry_run)
    _show_moved(moved, dry_run=dry_run, as_json=as_json)


@models.command("export")
def export_model(
    scorer: ScorerNumber,
    out: Annotated[Path, typer.Argument(help="a new folder")],
) -> None:
    """Write a scorer to a folder that plain peft and transformers open; its README.md says how."""
    from workers.exporting import export_scorer

    database, settings = _opened()
    export_scorer(database, settings, scorer, out)
    say(f"scorer {scorer} is in {out}; {out / 'README.md'} tells how to open it")


@models.command("import")
def import_model(
    folder: Annotated[Path, typer.Argument(help="a folder that `models export` wrote")],
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Check an exported scorer and register it; no alias moves, `models promote` does that.

    Refused with the reason: a file truncated or changed, anything but safetensors, another backbone, other
    traits or levels than the item has, golden logits that do not come out.
    """
    from workers.exporting import import_scorer

    database, settings = _opened()
    done = import_scorer(database, settings, folder, dry_run=dry_run)
    if as_json:
        print_json(done)
    elif done.scorer_id is None:
        say(f"{folder}: would be registered for item {done.item_id}")
    else:
        say(f"scorer {done.scorer_id} of item {done.item_id} is registered; promote it to let it serve")


def _opened() -> tuple[Database, Settings]:
    from db.session import make_engine
    from workers.places import database_url
    from workers.settings import load_settings

    settings = load_settings()
    return make_engine(database_url(settings)), settings


def _word(actor: str | None, reason: str) -> Word:
    from workers.models import Word, current_user

    return Word(actor or current_user(), reason)


def _show_moved(moved: Sequence[Moved], *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        print_json({"dry_run": dry_run, "moved": moved})
        return
    word = "would be" if dry_run else "is"
    for one in moved:
        say(f"{one.item_id}: was {_told(one.before)}; {word} {_told(one.after)}")


def _told(aliases: dict[str, int]) -> str:
    return ", ".join(f"{alias} {scorer_id}" for alias, scorer_id in aliases.items()) or "without a scorer"


def _mean_qwk(one: ScorerListing) -> float | None:
    kappas = [float(figures["qwk"]) for figures in one.metrics.get("test", ()) if figures.get("qwk")]
    return sum(kappas) / len(kappas) if kappas else None
