"""Worker processes in a tenth of a second: forked from one that has imported everything and started nothing.

Each child is a process of its own that can be frozen and killed; the parent only forks and collects exits.
Run as `python -m tests.chaos.nursery`, it takes a line of JSON for each worker to start.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import signal
import subprocess
import sys
import threading
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from workers.cli.printing import print_json

if TYPE_CHECKING:
    from collections.abc import Callable

_ROOT = Path(__file__).resolve().parents[2]
_POLL_S = 0.05


class Nursery:
    """The side of the tests: starts workers and knows who has ended, and how."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self._environment = environment
        self._log = log
        self._changed = threading.Condition()
        self._born: list[int] = []
        self.exits: dict[int, int] = {}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.nursery"],
            cwd=_ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def start(self) -> int:
        """Start a worker; its process id."""
        with self._changed:
            num_born = len(self._born)
            self._say({"environment": self._environment, "log": str(self._log)})
            if not self._changed.wait_for(lambda: len(self._born) > num_born, timeout=120):
                raise RuntimeError("the nursery does not answer")
            return self._born[-1]

    def wait(self, pid: int, *, timeout_s: float) -> int | None:
        """Wait for a worker's end; its exit code (negative: the signal), or None when the time is over."""
        with self._changed:
            self._changed.wait_for(lambda: pid in self.exits, timeout=timeout_s)
            return self.exits.get(pid)

    def close(self) -> None:
        """Kill whoever still lives, and the nursery itself."""
        for pid in [pid for pid in self._born if pid not in self.exits]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            self.wait(pid, timeout_s=10)
        self._process.kill()  # it holds nothing, and an interpreter that has loaded torch takes its time
        self._process.wait(30)
        self._process.stdin.close()
        self._listener.join(10)
        self._process.stdout.close()

    def _say(self, order: dict[str, object]) -> None:
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()

    def _listen(self) -> None:
        for line in self._process.stdout:
            told = json.loads(line)
            with self._changed:
                if "born" in told:
                    self._born.append(told["born"])
                else:
                    self.exits[told["ended"]] = told["code"]
                self._changed.notify_all()


def serve() -> None:
    """The side of the processes: fork on each line, report each end."""
    import transformers.models.bert.modeling_bert  # noqa: F401

    import workers.cli.processes
    import workers.consumer  # noqa: F401
    from tests.chaos.worker import run

    while True:
        ready, _, _ = select.select([0], [], [], _POLL_S)
        if ready:
            line = _read_line()
            if not line:
                return
            order = json.loads(line)
            pid = os.fork()
            if pid == 0:
                _become_worker(order, run)
            print_json({"born": pid})
        _collect()


def _read_line() -> bytes:
    # Unbuffered: a buffer would hide a second line from select.
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            return line
        line += byte
    return line


def _collect() -> None:
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            print_json({"ended": pid, "code": os.waitstatus_to_exitcode(status)})


def _become_worker(order: dict, run: Callable[[], None]) -> None:
    code = 1
    try:
        os.setsid()
        log = os.open(order["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ.clear()
        os.environ.update(order["environment"])
        random.seed()
        run()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 (the child must never return into the nursery's loop)
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve()
