"""The verbs report and merges report: pages on demand."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from workers.cli.main import app
from workers.cli.merges import merges
from workers.cli.printing import print_json, say

_BEHIND_SCORING = 10


@app.command()
def report(
    out: Annotated[
        Path | None,
        typer.Option(help="the file; by default morning-DATE.html and latest.html in the folder of reports"),
    ] = None,
    scheduled: Annotated[bool, typer.Option("--scheduled", hidden=True)] = False,
    period: Annotated[str | None, typer.Option(hidden=True)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Write the morning's page: one HTML file that loads nothing and holds no answer and no student.

    Progress and rejects, agreement with intervals and flags, score shares, condition codes, the read queue,
    drift, merges; each table with the SELECT behind it. While `beat` runs it is written each night by itself.
    """
    from db.session import make_engine
    from workers.places import database_url
    from workers.report.morning import write_report
    from workers.report.schedule import run_morning
    from workers.settings import load_settings
    from workers.telemetry import configure_logging

    settings = load_settings()
    database = make_engine(database_url(settings), statement_timeout_s=None)
    if scheduled:
        configure_logging(settings.telemetry)
        os.nice(_BEHIND_SCORING)
        run_morning(database, settings, period=period)
        return
    path = write_report(database, settings, out=out)
    if as_json:
        print_json({"file": path})
    else:
        say(str(path))


@merges.command("report")
def report_merges(
    out: Annotated[
        Path | None, typer.Option(help="the file; by default merges-DATE.html in the folder of reports")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Write distances and proposals as one HTML file: heatmap, dendrogram, evidence."""
    from db.session import make_engine
    from workers.places import database_url
    from workers.report.morning import write_merges_report
    from workers.settings import load_settings

    settings = load_settings()
    database = make_engine(database_url(settings), statement_timeout_s=None)
    path = write_merges_report(database, settings, out=out)
    if as_json:
        print_json({"file": path})
    else:
        say(str(path))
