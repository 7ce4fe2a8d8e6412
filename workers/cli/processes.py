"""Verbs that stay: worker and beat."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from workers.cli.main import app


@app.command()
def worker(
    shards: Annotated[
        str | None, typer.Option(help="queues to listen to, such as 0,1,2; all by default")
    ] = None,
) -> None:
    """Score what waits, until told to stop.

    TERM or Ctrl-C: it finishes what is in hand. Run one process a GPU, or one a CPU core. Any number
    may run on any number of machines.
    """
    from workers.consumer import run_worker
    from workers.engines import build_engine
    from workers.settings import load_settings
    from workers.telemetry import configure_logging

    settings = load_settings()
    configure_logging(settings.telemetry)
    chosen = parse_shards(shards, num_shards=settings.broker.num_shards)
    sys.exit(run_worker(settings, build_engine(settings), shards=chosen))


@app.command()
def beat() -> None:
    """Tick for scheduled work.

    Any number of beats may run: a night is run once.
    """
    from workers.consumer import run_beat
    from workers.settings import load_settings
    from workers.telemetry import configure_logging

    settings = load_settings()
    configure_logging(settings.telemetry)
    run_beat(settings)


def parse_shards(shards: str | None, *, num_shards: int) -> list[int] | None:
    """Read `0,1,2`; None means all."""
    if shards is None:
        return None
    try:
        chosen = sorted({int(shard) for shard in shards.split(",")})
    except ValueError:
        raise typer.BadParameter(f"--shards {shards}: write numbers such as 0,1,2") from None
    if not all(0 <= shard < num_shards for shard in chosen):
        raise typer.BadParameter(f"--shards {shards}: there are shards 0 to {num_shards - 1}")
    return chosen
