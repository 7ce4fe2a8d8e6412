"""The verb train."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scoring.config import Method  # noqa: TC001 (typer reads it while the program runs)
from workers.cli.main import app, parse_only
from workers.cli.printing import print_json, print_table, progress_bar, remark, say

if TYPE_CHECKING:
    from workers.training import TrainedItem


@app.command()
def train(
    file: Annotated[Path, typer.Argument(help="human-scored answers, CSV or JSON lines")],
    item: Annotated[list[str] | None, typer.Option(help="only this item; may be repeated")] = None,
    only: Annotated[list[str] | None, typer.Option(help="only rows with name=value")] = None,
    promote: Annotated[
        bool | None,
        typer.Option(
            "--promote/--no-promote",
            help="make the new scorers champions, or not; by default only where there is none",
        ),
    ] = None,
    method: Annotated[
        Method,
        typer.Option(
            help="lora: an adapter and a head; head: a head alone on the backbone as it is; full: a whole "
            "encoder for each item, which is measured as a baseline and neither stored nor served"
        ),
    ] = "lora",
    change: Annotated[
        list[str] | None,
        typer.Option("--set", help="change a part of the recipe: name=value, lora.rank=16; may be repeated"),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="train also what the same answers and recipe have trained before")
    ] = False,
    epochs: Annotated[int | None, typer.Option(min=1, help="passes over the answers at most")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="seed of all draws")] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, help="training processes; one a core by default")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Train scorers on human-scored answers.

    Fine-tunes an adapter and a head for each item (or by another --method), and registers the scorers. Rows
    have item_id, text and score (or scores by trait); a `fold` column (train, validation, test) is kept to,
    else 80/10/10 is drawn so that equal answers never fall on two sides.
    """
    from db import registry
    from db.session import make_engine
    from scoring.config import recipe
    from workers.places import database_url
    from workers.recipes import changed
    from workers.settings import load_settings
    from workers.training import Wishes, read_training_data, train_items
    from workers.writer import database_errors

    settings = load_settings()
    database = make_engine(database_url(settings))
    with database_errors(), database.connect() as connection:
        items = registry.load_items(connection)
    data = read_training_data(file, items, settings, only=parse_only(only), wanted=item or ())
    for row in data.rejected[:20]:
        remark(f"{file}: line {row.line}: {row.detail} ({row.reason})", style="yellow")
    config = changed(recipe(method).limited(epochs), change or ())
    config = config if seed is None else replace(config, seed=seed)
    trained: list[TrainedItem] = []
    with progress_bar(unit="epochs") as bar:
        total = bar.add_task(f"training {len(data.answers)} items", total=None)
        trained.extend(
            train_items(
                database,
                data,
                settings,
                config=config,
                wishes=Wishes(promote, again, processes),
                progress=lambda done, epochs: bar.update(total, completed=done, total=epochs),
            )
        )
    _show(trained, as_json=as_json)
    raise typer.Exit(3 if data.rejected or any(one.error for one in trained) else 0)


def _role(one: TrainedItem) -> str:
    if one.scorer_id is None:
        return "baseline"
    if one.was_there:
        return "champion, from before" if one.is_champion else "from before"
    return "champion" if one.is_champion else "registered"


def _show(trained: list[TrainedItem], *, as_json: bool) -> None:
    if as_json:
        from workers.evaluating import plain

        print_json([plain(one) for one in trained])
        return
    rows = [row for one in trained for row in _rows(one)]
    print_table(("item", "trait", "train", "test", "QWK", "accuracy", "F1", "scorer", "as"), rows)
    qwks = [row[4] for row in rows if isinstance(row[4], float) and row[4] == row[4]]
    if qwks:
        say(f"mean QWK {sum(qwks) / len(qwks):.3f} on held-out answers")
    for one in trained:
        if one.error is not None:
            remark(f"error: {one.item_id}: {one.error}", style="red")
        elif one.report is not None and not one.report.num_test:
            remark(
                f"{one.item_id}: no answer is left to test it by; see `evaluate` once people have read some"
            )


def _rows(one: TrainedItem) -> list[tuple[object, ...]]:
    """A row a trait; without test answers, a row that says so."""
    report = one.report
    if report is None:
        return []
    measured: list[tuple[object, ...]] = [
        (m.trait, m.num_answers, m.qwk, m.accuracy, m.macro_f1) for m in report.metrics
    ]
    return [
        (one.item_id, trait, report.num_train, *figures, one.scorer_id, _role(one))
        for trait, *figures in measured or [("", 0, None, None, None)]
    ]
