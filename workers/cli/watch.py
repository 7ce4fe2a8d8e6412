"""The verb watch: a folder whose files are submitted by themselves."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workers.cli.main import app
from workers.cli.options import Source  # noqa: TC001 (typer asks for it)
from workers.cli.printing import remark, say

if TYPE_CHECKING:
    from workers.watching import Watch

#: Done, but some rows were refused.
_PARTLY = 3


@app.command()
def watch(
    folder: Annotated[
        str,
        typer.Argument(help="where the nightly exports come in: a folder, or a URL such as s3://bucket/in"),
    ],
    source: Source = "file",
    sources: Annotated[Path | None, typer.Option(help="TOML file of what is known about each source")] = None,
    rejects: Annotated[
        Path | None, typer.Option(help="a folder for the refused rows of each file, as CSV")
    ] = None,
    settle_s: Annotated[
        float, typer.Option(min=0, help="in a folder, a file that has not changed for so long is whole")
    ] = 30.0,
    interval_s: Annotated[float, typer.Option(min=0.1, help="how often to look")] = 10.0,
    once: Annotated[bool, typer.Option("--once", help="look once and leave, for a timer")] = False,
) -> None:
    """Submit each file that comes into FOLDER, a folder or a prefix of an object store, once.

    It goes on until told to stop. The files stay where they are; one whose content is in the ledger is passed
    over, whatever its name. For s3:// install s3fs, for gs:// gcsfs, for abfs:// adlfs. With --once the exit
    code is 1 when a file could not be taken, 3 when rows of one were refused.
    """
    from db.session import make_engine
    from workers.importers.sources import load_source
    from workers.inbox import open_inbox
    from workers.intake import Reading
    from workers.places import database_url
    from workers.settings import load_settings
    from workers.telemetry import configure_logging
    from workers.watching import Watch, WatchPolicy

    settings = load_settings()
    configure_logging(settings.telemetry)
    policy = WatchPolicy(
        source=source,
        limits=settings.intake,
        reading=Reading(settings=load_source(sources, source)),
        rejects=rejects,
    )
    database = make_engine(database_url(settings), statement_timeout_s=None)
    looking = Watch(database, open_inbox(folder, settle_s=settle_s), policy)
    if once:
        raise typer.Exit(_look_once(looking))
    _until_told_to_stop(looking, interval_s)


def _look_once(looking: Watch) -> int:
    reports = looking.look()
    num_refused = 0
    for report in reports:
        refused = report.num_conflicts + report.num_rejected
        also = f", {refused} rows refused" if refused else ""
        say(f"batch {report.batch_id}, {report.file_format}: {report.num_new} new answers{also}")
        num_refused += refused
    for name, reason in looking.not_taken.items():
        remark(f"{name}: not taken: {reason}", style="yellow")
    if looking.not_taken:
        return 1
    return _PARTLY if num_refused else 0


def _until_told_to_stop(looking: Watch, interval_s: float) -> None:
    from scoring.errors import LocalFaultError, TransientError
    from workers.telemetry import get_logger

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    log = get_logger("watch")
    while not stop.is_set():
        try:
            looking.look()
        except (TransientError, LocalFaultError) as error:
            log.warning("look_skipped", reason=str(error))
        stop.wait(interval_s)
