"""Whether this machine could work, and whether its workers do: servers answer, the schema fits, pulses beat.

A worker writes its pulse to a small file every second. A file, not a row: whether a process moves must be
known while Postgres is away, and a supervisor should not restart workers for that.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import redis
from sqlalchemy import text

from db import migrate
from db.session import make_engine
from scoring.errors import ScorefoldError
from workers import places
from workers.writer import database_errors

if TYPE_CHECKING:
    from pathlib import Path

    from workers.settings import Settings

#: A process that has not written its pulse for so long is frozen, or starved of its machine.
_SILENT_S = 15.0


@dataclass(frozen=True, slots=True)
class Pulse:
    """One worker process at one moment.

    Attributes:
        pid: the process
        started_at: when it started, seconds since the epoch
        at: this moment, seconds since the epoch
        stalled_s: for how long the engine has been busy with one batch
        deaf_s: for how long a consumer with free hands has heard nothing from the broker
    """

    pid: int
    started_at: float
    at: float
    stalled_s: float
    deaf_s: float


def pulse_folder(settings: Settings) -> Path:
    """Where the workers of one home write their pulses."""
    return settings.home.path / "run"


def write_pulse(folder: Path, pulse: Pulse) -> None:
    """Replace this process's pulse; whoever reads sees the old one or the new one."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / _file_name(pulse.pid)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(asdict(pulse)), encoding="utf-8")
    partial.replace(path)


def forget_pulse(folder: Path) -> None:
    """Take this process's pulse away: it ends in order."""
    (folder / _file_name(os.getpid())).unlink(missing_ok=True)


def check_health(settings: Settings) -> list[str]:
    """One line for each thing that is not as it must be; empty when all is well."""
    return [fault for check in (_database_fault, _broker_fault) if (fault := check(settings)) is not None]


def check_workers(settings: Settings) -> list[str]:
    """One line for each worker of this machine and home that makes no progress, or one if there is none.

    Asks neither Postgres nor Redis: a worker that waits for them is well.
    """
    pulses = _living(pulse_folder(settings))
    if not pulses:
        return [f"no worker of this machine beats in {pulse_folder(settings)}"]
    return [fault for pulse in pulses if (fault := _pulse_fault(pulse, settings)) is not None]


def _pulse_fault(pulse: Pulse, settings: Settings) -> str | None:
    silent_s, stall_s = time.time() - pulse.at, settings.worker.stall_s
    if silent_s > _SILENT_S:
        return f"worker {pulse.pid} has not been heard of for {silent_s:.0f} s"
    if pulse.stalled_s > stall_s:
        return f"worker {pulse.pid}: the engine has been at one batch for {pulse.stalled_s:.0f} s"
    if pulse.deaf_s > stall_s:
        return f"worker {pulse.pid} has heard nothing from the broker for {pulse.deaf_s:.0f} s"
    return None


def _living(folder: Path) -> list[Pulse]:
    found = []
    for path in sorted(folder.glob(_file_name("*"))):
        with contextlib.suppress(OSError, ValueError, TypeError):
            pulse = Pulse(**json.loads(path.read_text(encoding="utf-8")))
            if _is_alive(pulse.pid):
                found.append(pulse)
            else:
                path.unlink(missing_ok=True)  # it was killed
    return found


def _file_name(pid: int | str) -> str:
    # With the machine's name: a home may be a volume that several containers share.
    return f"worker-{socket.gethostname()}-{pid}.json"


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _database_fault(settings: Settings) -> str | None:
    try:
        database = make_engine(places.database_url(settings))
        with database_errors(), database.connect() as connection:
            connection.execute(text("SELECT 1"))
            revision = migrate.current(connection)
    except ScorefoldError as error:
        return str(error)
    if revision is None or revision < migrate.head():
        return f"the schema is at {revision}, this code needs {migrate.head()}: run `scorefold migrate`"
    return None


def _broker_fault(settings: Settings) -> str | None:
    try:
        redis.Redis.from_url(places.broker_url(settings), socket_timeout=5.0).ping()
    except (ScorefoldError, redis.RedisError) as error:
        return str(error) if isinstance(error, ScorefoldError) else "Redis does not answer"
    return None
