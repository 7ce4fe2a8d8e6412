"""One server program as a child process: start it, wait until it answers, watch it, stop it.

What the program is, is behind `Server`; who restarts it when it dies is the supervisor's business.
"""

from __future__ import annotations

import subprocess
import threading
import time
from typing import TYPE_CHECKING, Protocol

from scoring.errors import EmbeddedServiceError
from workers.embedded.identity import SERVER_ENVIRONMENT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from workers.embedded.identity import Identity

#: Recovery after a kill replays the log since the last checkpoint, which can take this long on a slow disk.
_START_TIMEOUT_S = 120.0
_STOP_TIMEOUT_S = 30.0
_POLL_S = 0.02
_MAX_LOG_BYTES = 16 * 2**20


class Server(Protocol):
    """A server program with one data folder and one log."""

    @property
    def name(self) -> str:
        """What people and logs call it."""

    @property
    def stop_signal(self) -> int:
        """Asks for an orderly stop; also what the kernel sends when the parent dies."""

    @property
    def second_signal(self) -> int:
        """Asks again, less politely, before SIGKILL."""

    @property
    def data(self) -> Path:
        """The data folder, named on the command line as well."""

    @property
    def log(self) -> Path:
        """File that takes what the server prints."""

    def prepare(self, identity: Identity) -> None:
        """Bring the data folder into a state that the server can start from."""

    def command(self) -> Sequence[str]:
        """The program and its arguments; free of secrets."""

    def version(self) -> str | None:
        """What the running server says it is; None while it does not answer."""


class ServerProcess:
    """A server running as a child of this process.

    The kernel ties the child's life to the thread that starts it, so only the main thread may.
    """

    def __init__(self, server: Server, identity: Identity) -> None:
        self.server = server
        self.started_at = 0.0
        self.num_restarts = 0
        self._identity = identity
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the last start; None before the first."""
        return self._child.pid if self._child else None

    def is_alive(self) -> bool:
        """Whether the child runs; collects its exit status if not."""
        return self._child is not None and self._child.poll() is None

    def start(self) -> None:
        """Prepare and start the server without waiting for it.

        Raises:
            EmbeddedServiceError: the data folder is unusable, or this is not the main thread.
        """
        if threading.current_thread() is not threading.main_thread():
            raise EmbeddedServiceError(f"{self.server.name} must be started from the main thread")
        self.server.prepare(self._identity)
        line = self._identity.command(self.server.command(), death_signal=self.server.stop_signal)
        _rotate(self.server.log)
        with self.server.log.open("ab") as log:
            self._child = subprocess.Popen(  # noqa: S603
                line,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=SERVER_ENVIRONMENT,
                start_new_session=True,
            )
        self.started_at = time.time()

    def wait(self) -> None:
        """Wait until the server answers.

        Raises:
            EmbeddedServiceError: it ended first, or gives no answer for too long.
        """
        log, deadline = self.server.log, time.monotonic() + _START_TIMEOUT_S
        while self.server.version() is None:
            if not self.is_alive():
                said = _last_line(log)
                raise EmbeddedServiceError(f"{self.server.name} ended while starting: {said} (see {log})")
            if time.monotonic() > deadline:
                raise EmbeddedServiceError(f"{self.server.name} gives no answer while starting: see {log}")
            time.sleep(_POLL_S)

    def stop(self) -> None:
        """Stop the server and wait until it is gone; free if it never ran."""
        if self._child is None:
            return
        for number in (self.server.stop_signal, self.server.second_signal):
            self._child.send_signal(number)
            try:
                self._child.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                continue
            return
        self._child.kill()
        self._child.wait()


def _rotate(log: Path) -> None:
    if log.exists() and log.stat().st_size > _MAX_LOG_BYTES:
        log.replace(log.with_suffix(".log.1"))
    log.touch(mode=0o600)


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n") if log.exists() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
