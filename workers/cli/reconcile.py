"""The verb reconcile: an exporter's list against the ledger."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from workers.cli.main import app
from workers.cli.printing import print_json, remark, say

#: Done, but list and ledger do not agree.
_PARTLY = 3


@app.command()
def reconcile(
    manifest: Annotated[Path, typer.Option(help="the exporter's list: CSV or JSON lines with response_id")],
    source: Annotated[str, typer.Option(help="the source that the responses were submitted under")] = "file",
    limit: Annotated[int, typer.Option(min=1, help="findings shown at most")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON, with every finding")] = False,
) -> None:
    """Compare an exporter's list with the ledger: what is missing, double, in conflict or quarantined.

    The list needs response_id; attempt, item_id and text are compared where it has them. Exit code 0 means
    that every listed response is in the ledger once, as listed, and scored or on its way; 3 that something
    is named below.
    """
    from db.session import make_engine
    from workers.places import database_url
    from workers.reconcile import reconcile as compare
    from workers.settings import load_settings

    settings = load_settings()
    database = make_engine(database_url(settings), statement_timeout_s=None)
    found = compare(database, manifest, source=source, limits=settings.intake)
    if as_json:
        print_json(asdict(found))
    else:
        kinds = Counter(finding.kind for finding in found.findings)
        say(
            f"{found.num_listed} listed: {found.num_scored} scored, {found.num_waiting} waiting,"
            f" {found.num_quarantined} quarantined, {kinds['missing']} missing,"
            f" {kinds['listed_twice'] + kinds['scored_twice']} double, {kinds['conflict']} in conflict;"
            f" {found.num_unlisted} in the ledger are not listed"
        )
        for finding in found.findings[:limit]:
            remark(
                f"{manifest}: line {finding.line}: response {finding.response_id} attempt {finding.attempt}:"
                f" {finding.detail} ({finding.kind})",
                style="yellow",
            )
        if len(found.findings) > limit:
            remark(f"... and {len(found.findings) - limit} more; --json lists all", style="yellow")
    raise typer.Exit(_PARTLY if found.findings else 0)
