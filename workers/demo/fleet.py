"""Worker processes of the demo: the same command that an operator would run, bound to this process's life."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scoring.errors import FatalError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from workers.settings import Settings

_STOP_S = 60.0


@dataclass(frozen=True, slots=True)
class Fleet:
    """Worker processes and where they write."""

    processes: tuple[subprocess.Popen[bytes], ...]
    logs: Path

    def require_alive(self) -> None:
        """End the wait when nobody is left to score.

        Raises:
            FatalError: all workers have ended.
        """
        if all(process.poll() is not None for process in self.processes):
            codes = ", ".join(str(process.returncode) for process in self.processes)
            raise FatalError(f"all workers have ended (exit codes {codes}); see {self.logs}")


@contextmanager
def running_workers(settings: Settings, *, num_workers: int) -> Iterator[Fleet]:
    """Start workers; stop them softly at the end of the block."""
    logs = settings.home.path / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"SCOREFOLD_HOME__PATH": str(settings.home.path.resolve())}
    processes = tuple(
        _start(environment, logs / f"worker-{number}.log") for number in range(1, num_workers + 1)
    )
    try:
        yield Fleet(processes, logs)
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            _wait(process)


def _start(environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as stream:
        return subprocess.Popen(
            [sys.executable, "-m", "workers.cli", "worker"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
        )


def _wait(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
