"""The verb stream: a process that only reads the stream of events, and the schema for those who write it."""

from __future__ import annotations

import os
import signal
import socket
from typing import Annotated

import typer

from workers.cli.main import app
from workers.cli.printing import print_json


@app.command()
def stream(
    schema: Annotated[
        bool, typer.Option("--schema", help="print the JSON Schema of an event and leave")
    ] = False,
) -> None:
    """Read the Redis Stream of events into the ledger, until told to stop; workers do so too by default.

    A process of its own is of use where workers come and go, or run elsewhere than the ledger.
    """
    from workers.events import SubmissionEvent

    if schema:
        print_json(SubmissionEvent.model_json_schema())
        return
    from db.session import make_engine
    from workers.doors.desk import Desk
    from workers.doors.stream import open_reader
    from workers.places import database_url
    from workers.settings import load_settings
    from workers.telemetry import configure_logging

    settings = load_settings()
    configure_logging(settings.telemetry)
    database = make_engine(database_url(settings))
    name = f"{socket.gethostname()}/{os.getpid()}"
    reader = open_reader(settings, database, Desk(database, settings.intake), name=name)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: reader.stop())
    reader.run()
