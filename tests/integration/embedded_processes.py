"""What the tests of embedded services need to see of the machine: who runs, and as whom to run."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from workers.embedded.services import down

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: Runs its arguments as root of a user namespace that knows all users and allows no further namespaces.
_NAMESPACE_KEEPER = """
import ctypes, os, sys
from pathlib import Path

entered, enter = os.pipe()
mapped, map_ = os.pipe()
child = os.fork()
if child == 0:
    assert ctypes.CDLL(None).unshare(0x10000000) == 0
    os.write(enter, b".")
    os.read(mapped, 1)
    Path("/proc/sys/user/max_user_namespaces").write_text("0")
    os.execv(sys.argv[1], sys.argv[1:])
os.read(entered, 1)
for name in ("uid_map", "gid_map"):
    Path(f"/proc/{child}/{name}").write_text("0 0 65537")
os.write(map_, b".")
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
WITHOUT_NAMESPACES = (sys.executable, "-c", _NAMESPACE_KEEPER)


def copy_of(home: Path, to: Path) -> Path:
    """A new home with the data of one whose servers are down first: initdb takes a second, this does not."""
    down(home)
    to.mkdir(parents=True)
    for name in ("postgres", "redis"):
        shutil.copytree(home / name, to / name, symlinks=True)
    return to


def processes_naming(folder: Path) -> dict[int, str]:
    """Command lines of all living processes that mention `folder`, by pid."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(folder) in command:
                found[int(entry.name)] = command
    return found


def wait_until(holds: Callable[[], object], *, timeout_s: float = 15.0) -> None:
    """Return as soon as `holds()` is true; fail if it does not come true in time."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, f"still not true after {timeout_s} s"
        time.sleep(0.02)


def run_python(code: str, *arguments: object, prefix: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    """Run a script in another process, under another identity if `prefix` says so."""
    line = [*prefix, sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, check=False, timeout=60, cwd="/")


def start_python(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Start a script in another process, which prints to a pipe."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, text=True
    )


def as_user(name: str) -> tuple[str, ...]:
    """Prefix that runs a command as an ordinary user who may read everywhere.

    The interpreter may lie below a closed /root; writing is as forbidden as to anybody.
    """
    reading = ("--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search")
    group = grp.getgrgid(pwd.getpwnam(name).pw_gid).gr_name
    return ("setpriv", f"--reuid={name}", f"--regid={group}", "--clear-groups", *reading)


def is_root() -> bool:
    return os.geteuid() == 0
