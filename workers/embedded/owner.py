"""Who runs the servers of a home: at most one process, told by a lock that the kernel frees when it dies.

The owner also writes down here what it knows of its servers; readers trust that only while the lock is held.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

from scoring.errors import EmbeddedServiceError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from workers.embedded.home import Home

Kind = Literal["supervisor", "foreground"]
_ATTEMPTS = 10
_PAUSE_S = 0.02


@dataclass(frozen=True, slots=True)
class Owner:
    """The process that holds a home's lock."""

    pid: int
    kind: Kind


@dataclass(frozen=True, slots=True)
class ServerNote:
    """What the owner knows of one server.

    Attributes:
        name: postgres or redis
        pid: process id of its last start
        started_at: time of that start, seconds since the epoch
        num_restarts: starts after an unwanted end
    """

    name: str
    pid: int
    started_at: float
    num_restarts: int


def own(home: Home, kind: Kind) -> int:
    """Own the home until this process ends, or closes the descriptor that it gets.

    Raises:
        EmbeddedServiceError: another process does.
    """
    descriptor = os.open(home.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _lock(descriptor, home)
    except BaseException:
        os.close(descriptor)
        raise
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(asdict(Owner(os.getpid(), kind))).encode(), 0)
    return descriptor


@contextmanager
def owning(home: Home, kind: Kind) -> Iterator[None]:
    """Own the home for the length of the block.

    Raises:
        EmbeddedServiceError: another process does.
    """
    descriptor = own(home, kind)
    try:
        yield
    finally:
        os.close(descriptor)


def find_owner(home: Home) -> Owner | None:
    """The process that runs this home's servers; None if nobody does.

    Raises:
        EmbeddedServiceError: the home belongs to another user.
    """
    for _ in range(_ATTEMPTS):
        try:
            descriptor = os.open(home.lock, os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except PermissionError as error:
            raise EmbeddedServiceError(
                f"home {home.root} belongs to another user: run as its owner"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            if text := os.pread(descriptor, 200, 0):
                return Owner(**json.loads(text))
        else:
            return None
        finally:
            os.close(descriptor)
        time.sleep(_PAUSE_S)  # it has the lock and is about to write its name
    raise EmbeddedServiceError(
        f"{home.lock} is held by a process that does not say who it is: see `lsof {home.lock}`"
    )


def write_notes(home: Home, notes: Sequence[ServerNote]) -> None:
    """Replace what is known of the servers, in one step."""
    fresh = home.state.with_suffix(".new")
    fresh.write_text(json.dumps([asdict(note) for note in notes]), encoding="utf-8")
    fresh.replace(home.state)


def read_notes(home: Home) -> dict[str, ServerNote]:
    """What the last owner knew of its servers, by name; empty if there was none."""
    try:
        entries = json.loads(home.state.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return {entry["name"]: ServerNote(**entry) for entry in entries}


def _lock(descriptor: int, home: Home) -> None:
    # Whoever merely looks holds the lock for a moment, so one refusal proves nothing.
    for _ in range(_ATTEMPTS):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_PAUSE_S)
        else:
            return
    raise EmbeddedServiceError(
        f"another process runs the services of {home.root}: stop them with `scorefold down`"
    )
