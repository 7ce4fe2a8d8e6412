"""The shell completes verbs and options: the console script answers a shell's question by itself."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_ASK = "import sys; sys.argv[0] = 'scorefold'; from workers.cli import main; main()"


def completed(shell: str, line: str) -> str:
    words = line.split(" ")
    question = {
        "bash": {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)},
        "zsh": {"_TYPER_COMPLETE_ARGS": line},
        "fish": {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
    }[shell]
    environment = {**os.environ, **question, "_SCOREFOLD_COMPLETE": f"complete_{shell}"}
    done = subprocess.run(
        [sys.executable, "-c", _ASK], env=environment, capture_output=True, text=True, check=False
    )
    return done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_verb_is_completed(shell: str) -> None:
    assert "submit" in completed(shell, "scorefold sub")
    assert "retrain" not in completed(shell, "scorefold sub")


def test_verbs_of_a_group_and_options_are_completed_too() -> None:
    assert set(completed("bash", "scorefold reads ").split()) >= {"draw", "ask"}
    assert "--dry-run" in completed("bash", "scorefold submit --d")
