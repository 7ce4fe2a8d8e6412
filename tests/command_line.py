"""The command `scorefold` for tests: its own `main`, in this process, with settings of the test's own."""

from __future__ import annotations

import gc
import sys
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workers.cli import main, printing

if TYPE_CHECKING:
    import pytest


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str


class CommandLine:
    """Runs commands as the console script does; settings stay set for the length of the test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            # All that lives now is no command's garbage: collecting after each of them is quick then.
            gc.unfreeze()
            gc.collect()
            gc.freeze()

    def set(self, **settings: object) -> None:
        """Set `SCOREFOLD_<name>`; None takes it away."""
        for name, value in settings.items():
            if value is None:
                self._monkeypatch.delenv(f"SCOREFOLD_{name}", raising=False)
            else:
                self._monkeypatch.setenv(f"SCOREFOLD_{name}", str(value))

    def __call__(self, *arguments: object) -> Outcome:
        """Run one command to its end."""
        self._monkeypatch.setattr(sys, "argv", ["scorefold", *map(str, arguments)])
        # A console keeps the streams it was made with, and every test has others.
        printing._console.cache_clear()
        self._capsys.readouterr()
        code = 0
        with warnings.catch_warnings():
            # A process's end closes its connections; here the process goes on.
            warnings.simplefilter("ignore", ResourceWarning)
            try:
                main()
            except SystemExit as stop:
                code = int(stop.code or 0)
            told = self._capsys.readouterr()
            gc.collect()
        return Outcome(code, told.out, told.err)
