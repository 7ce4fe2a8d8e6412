"""The verb export: scores into a file for the LMS or another system."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workers.cli.main import app, keep_apart
from workers.cli.options import OneBatch  # noqa: TC001 (typer asks for it)
from workers.cli.printing import print_json, say

if TYPE_CHECKING:
    from workers.outgoing import FileFormat

_FORMATS: dict[str, FileFormat] = {".jsonl": "jsonl", ".parquet": "parquet"}

export = typer.Typer(help="Write scores for other systems.", no_args_is_help=True)
app.add_typer(export, name="export")


@export.callback()
def _export() -> None:
    """Write scores for other systems."""


@export.command()
def scores(
    out: Annotated[Path, typer.Option(help="the file; an older one is replaced when all is written")],
    source: Annotated[str | None, typer.Option(help="one source only")] = None,
    item: Annotated[str | None, typer.Option(help="one item only")] = None,
    batch: OneBatch = None,
    cursor: Annotated[
        Path | None, typer.Option(help="a file that remembers: only what changed since the last time")
    ] = None,
    with_students: Annotated[
        bool, typer.Option("--with-students", help="add the real ids of students, for an LMS")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Write the scores that count: CSV, JSON lines if FILE ends in .jsonl, Parquet if in .parquet.

    A cell that a spreadsheet would run as a formula begins with an apostrophe. With --cursor a row may come
    twice, and none is left out.
    """
    from db.outgoing import Wanted
    from db.session import make_engine
    from workers.outgoing import export_scores
    from workers.places import database_url
    from workers.settings import load_settings

    keep_apart({"--out": out, "--cursor": cursor}, {})
    wanted = Wanted(source=source, item_id=item, batch_id=batch, with_students=with_students)
    num_rows = export_scores(
        make_engine(database_url(load_settings()), statement_timeout_s=None),
        out,
        wanted,
        file_format=_FORMATS.get(out.suffix.lower(), "csv"),
        cursor=cursor,
    )
    if as_json:
        print_json({"file": out, "num_rows": num_rows})
    else:
        say(f"{num_rows} scores written to {out}")
