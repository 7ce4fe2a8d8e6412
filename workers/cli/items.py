"""Verbs for items: load, list, draft."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from workers.cli.main import app, keep_apart
from workers.cli.printing import print_json, print_table, say

items = typer.Typer(help="Load, list and draft items.", no_args_is_help=True)
app.add_typer(items, name="items")


@items.command()
def load(
    file: Annotated[Path, typer.Argument(help="JSON list of items; see `scorefold items draft`")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only check")] = False,
) -> None:
    """Add items, or bring known ones up to date.

    Each item: {"id", "prompt", "language", "rubric", "traits": [{"name", "levels": [label, ...]}]}.
    One trait with levels 0..K is an ordinal item; several traits with two levels each a multi-label one.
    """
    from db import registry
    from db.session import make_engine
    from scoring.errors import InvalidInputError
    from workers.items import read_items
    from workers.places import database_url
    from workers.settings import load_settings
    from workers.writer import database_errors

    found = read_items(file)
    database = make_engine(database_url(load_settings()))
    with database_errors(), database.connect() as connection:
        try:
            num_new, num_changed = registry.save_items(connection, found)
        except registry.ItemConflictError as error:
            raise InvalidInputError(f"{file}: {error}") from error
        if not dry_run:
            connection.commit()
    word = "would be" if dry_run else "are"
    say(f"{len(found)} items read: {num_new} {word} new, {num_changed} changed")


@items.command("list")
def list_items(as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False) -> None:
    """Show all items and who scores them."""
    from db import registry
    from db.session import make_engine
    from workers.places import database_url
    from workers.settings import load_settings
    from workers.writer import database_errors

    database = make_engine(database_url(load_settings()))
    with database_errors(), database.connect() as connection:
        found = registry.load_items(connection)
        serving = registry.snapshot(connection).serving
    champions = {one.item_id: one.scorer_id for one in serving if one.role == "champion"}
    if as_json:
        print_json([{"item": item, "champion": champions.get(item.item_id)} for item in found.values()])
        return
    rows = [
        (
            item.item_id,
            item.language,
            ", ".join(f"{trait.trait} 0-{trait.num_levels - 1}" for trait in item.traits),
            champions.get(item.item_id),
        )
        for item in found.values()
    ]
    print_table(("item", "language", "traits", "champion"), rows)


@items.command()
def draft(
    file: Annotated[Path, typer.Argument(help="scored answers, CSV or JSON lines")],
    out: Annotated[Path | None, typer.Option(help="write here instead of printing")] = None,
    language: Annotated[str, typer.Option(help="language of all items, such as en or de")] = "en",
) -> None:
    """Write an item file from scored answers: ids, prompts, and as many levels as the scores show.

    Look it over and add labels and rubrics before you load it.
    """
    from workers.items import draft_items
    from workers.replacing import replaced
    from workers.settings import load_settings

    keep_apart({"--out": out}, {"FILE": file})
    settings = load_settings()
    drafted = draft_items(file, language=language, max_line_bytes=settings.intake.max_line_bytes)
    content = json.dumps(drafted, ensure_ascii=False, indent=2)
    if out is None:
        say(content)
    else:
        with replaced(out) as stream:
            stream.write(content + "\n")
        say(f"{len(drafted)} items drafted in {out}; `scorefold items load {out}` takes them in")
