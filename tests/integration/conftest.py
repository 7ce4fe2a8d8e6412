"""The command `scorefold` against a database and a broker of the test's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.command_line import CommandLine

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def scorefold(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    database_url: str,
    broker_url: str,
) -> CommandLine:
    """Runs a command in this process, as the console script does."""
    command = CommandLine(monkeypatch, capsys)
    command.set(HOME__PATH=tmp_path / "home", DATABASE__URL=database_url, BROKER__URL=broker_url)
    return command
