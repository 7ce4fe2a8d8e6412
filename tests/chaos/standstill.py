"""Processes that stand still at a named moment of the product's own code, and their kill."""

from __future__ import annotations

import functools
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_ROOT = Path(__file__).resolve().parents[2]


def stand_still(folder: Path) -> None:
    (folder / "reached").touch()
    time.sleep(600)


def after(owner: Any, name: str, folder: Path) -> None:
    """Stand still once `owner.name` has returned."""
    step: Callable[..., object] = getattr(owner, name)

    @functools.wraps(step)
    def wrapped(*arguments: Any, **named: Any) -> object:
        result = step(*arguments, **named)
        stand_still(folder)
        return result

    setattr(owner, name, wrapped)


def before(owner: Any, name: str, folder: Path) -> None:
    """Stand still before `owner.name` begins."""
    step: Callable[..., object] = getattr(owner, name)

    def wrapped(*arguments: Any, **named: Any) -> object:
        stand_still(folder)
        return step(*arguments, **named)

    setattr(owner, name, wrapped)


def killed_at(moment: str, module: str, folder: Path, database_url: str, *, timeout_s: float) -> None:
    """Run a module with the folder, the database and the moment; SIGKILL it once it stands still there."""
    command = [sys.executable, "-m", module, str(folder), database_url, moment]
    path = folder / "killed.log"
    with path.open("wb") as log:
        process = subprocess.Popen(command, cwd=_ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + timeout_s
        while not (folder / "reached").exists():
            told = path.read_text()
            assert process.poll() is None, told
            assert time.monotonic() < deadline, told
            time.sleep(0.05)
        assert process.poll() is None
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
