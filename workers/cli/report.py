"""The verb report: the morning's page, on demand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from workers.cli.main import app
from workers.cli.printing import print_json, say


@app.command()
def report(
    out: Annotated[
        Path | None,
        typer.Option(help="the file; by default morning-DATE.html and latest.html in the folder of reports"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Write the morning's page: one HTML file that loads nothing and holds no answer and no student.

    Progress and rejects, agreement with intervals and flags, score shares, condition codes, the read queue,
    drift, merges; each table with the SELECT behind it. Written each night by itself (see `beat`).
    """
    from db.session import make_engine
    from workers.places import database_url
    from workers.report.morning import write_report
    from workers.settings import load_settings

    settings = load_settings()
    path = write_report(make_engine(database_url(settings), statement_timeout_s=None), settings, out=out)
    if as_json:
        print_json({"file": path})
    else:
        say(str(path))
