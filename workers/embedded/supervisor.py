"""The detached process that keeps both servers running until it is told to stop.

Runs as `python -m workers.embedded.supervisor HOME`: the command returns once both servers answer, its child
stays. It knows nothing of what is stored in them.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from scoring.errors import EmbeddedServiceError
from workers.embedded.home import Home
from workers.embedded.owner import own
from workers.embedded.pair import ServerPair

if TYPE_CHECKING:
    from types import FrameType

    from workers.embedded.server import ServerProcess

_READY = "ready"
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 10.0
_MAX_DOUBLINGS = 8
#: A server that ran this long has recovered: its next end starts with the shortest pause again.
_STEADY_S = 30.0

log = structlog.get_logger()


class Supervisor:
    """Restarts a server that ends, with longer and longer pauses, until SIGTERM or SIGINT."""

    def __init__(self, pair: ServerPair) -> None:
        self._pair = pair
        self._stopping = False
        self._num_quick_ends = {process.server.name: 0 for process in pair.processes}
        self._start_at: dict[str, float] = {}
        self._bell, self._wakeup = socket.socketpair()
        self._wakeup.setblocking(False)  # noqa: FBT003

    def watch(self) -> None:
        """Stay until told to stop; both servers run when this begins."""
        signal.set_wakeup_fd(self._wakeup.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        # Without a handler of its own, a child's end would not ring the bell.
        signal.signal(signal.SIGCHLD, lambda *_: None)
        while not self._stopping:
            for process in self._pair.processes:
                self._tend(process)
            self._sleep()

    def _stop(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._stopping = True

    def _tend(self, process: ServerProcess) -> None:
        name, now = process.server.name, time.monotonic()
        if process.is_alive():
            return
        if name not in self._start_at:
            pause_s = self._next_pause_s(process)
            self._start_at[name] = now + pause_s
            log.error("server ended", action="server_ended", server=name, pid=process.pid, pause_s=pause_s)
        if now >= self._start_at[name]:
            del self._start_at[name]
            self._restart(process)

    def _restart(self, process: ServerProcess) -> None:
        process.num_restarts += 1
        try:
            process.start()
        except (EmbeddedServiceError, OSError) as error:
            log.exception("server not restarted", action="server_start_failed", reason=str(error))
        else:
            log.info(
                "server restarted", action="server_restarted", server=process.server.name, pid=process.pid
            )
        self._pair.note()

    def _next_pause_s(self, process: ServerProcess) -> float:
        name = process.server.name
        ran_s = time.time() - process.started_at
        num_quick_ends = 0 if ran_s > _STEADY_S else self._num_quick_ends[name] + 1
        self._num_quick_ends[name] = min(num_quick_ends, _MAX_DOUBLINGS)
        return min(_FIRST_PAUSE_S * 2.0 ** self._num_quick_ends[name], _LONGEST_PAUSE_S)

    def _sleep(self) -> None:
        due_s = [at - time.monotonic() for at in self._start_at.values()]
        if select.select([self._bell], [], [], max(0.0, min([1.0, *due_s])))[0]:
            self._bell.recv(1024)


def supervise(home: Home, report: int) -> None:
    """Own the home, start both servers, say so on the descriptor `report`, and watch them."""
    own(home, "supervisor")  # never closed: whoever finds the home free finds this process gone as well
    pair = ServerPair(home)
    pair.start()
    supervisor = Supervisor(pair)
    os.write(report, _READY.encode())
    os.close(report)
    log.info("services started", action="services_started", home=str(home.root))
    try:
        supervisor.watch()
    finally:
        pair.stop()
        log.info("services stopped", action="services_stopped", home=str(home.root))


def main(argv: list[str]) -> int:
    """Leave a supervisor behind; print the reason and return the exit code if there is none."""
    home = Home.at(Path(argv[0]))
    home.create()
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.close(reader)
        _detach(home)
        try:
            supervise(home, writer)
        except EmbeddedServiceError as error:
            log.exception("services not started", action="services_failed")
            with contextlib.suppress(OSError):
                os.write(writer, str(error).encode())
            return error.exit_code
        return 0
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as report:
        said = report.read() or f"the supervisor ended without a word: see {_log_path(home)}"
    if said == _READY:
        return 0
    sys.stderr.write(said)
    return EmbeddedServiceError.exit_code


def _detach(home: Home) -> None:
    os.setsid()
    os.chdir("/")
    target = os.open(_log_path(home), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for descriptor in (1, 2):
        os.dup2(target, descriptor)
    os.close(target)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ]
    )


def _log_path(home: Home) -> Path:
    return home.logs / "supervisor.log"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
