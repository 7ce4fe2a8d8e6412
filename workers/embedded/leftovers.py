"""What a killed server may leave behind: a pid file that names a stranger, or, without death signals, itself.

Callers hold the home's lock, so nothing found here is in use.
"""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

#: Above every kernel's limit, so no process can have it.
_NO_PID = 2**31 - 2
_STOP_TIMEOUT_S = 30.0


def command_of(pid: int) -> str | None:
    """Program and arguments of a process, as one line; None if there is no such process."""
    if platform.system() == "Linux":
        try:
            raw = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return None
        return os.fsdecode(raw.replace(b"\0", b" ")).strip()
    line = ["/bin/ps", "-ww", "-o", "command=", "-p", str(pid)]
    return subprocess.run(line, capture_output=True, text=True, check=False).stdout.strip() or None  # noqa: S603


def stop_orphan(pid: int, data: Path, stop_signal: int) -> None:
    """Stop a server of an earlier owner if `pid` is still one, told by the folder on its command line."""
    if not _serves(pid, data):
        return
    deadline = time.monotonic() + _STOP_TIMEOUT_S
    with suppress(ProcessLookupError):
        os.kill(pid, stop_signal)
        while _serves(pid, data):
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)


def _serves(pid: int, data: Path) -> bool:
    return f" {data}" in (command_of(pid) or "")


def disarm_pid_file(path: Path) -> None:
    """Make Postgres ignore a recycled pid in `postmaster.pid`, after stopping its own orphan if it is one.

    Postgres takes any living process with that pid for another postmaster. The rest of the file stays: from
    its shared memory key Postgres tells whether old backends are still at work.
    """
    try:
        first, *rest = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except (FileNotFoundError, ValueError):
        return
    if first.strip().isdecimal():
        stop_orphan(int(first), path.parent, signal.SIGINT)
    if path.exists():
        path.write_text("".join([f"{_NO_PID}\n", *rest]), encoding="utf-8")
