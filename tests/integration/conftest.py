"""The command `scorefold`, and a whole service, against a database and a broker of the test's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.command_line import CommandLine
from tests.deployment import Deployment

if TYPE_CHECKING:
    from collections.abc import Iterator
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


@pytest.fixture
def town(tmp_path: Path, database_url: str, broker_url: str) -> Iterator[Deployment]:
    """A service with items of two, three and four levels and one of three traits; a folder of its own."""
    made = Deployment.create(tmp_path, database_url=database_url, broker_url=broker_url)
    yield made
    made.close()
