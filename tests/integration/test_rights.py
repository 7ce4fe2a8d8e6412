"""A verb whose database login may not do what it was asked to: one line, the role named, exit code 78."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import make_url, text

from db.session import make_engine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.command_line import CommandLine


@pytest.fixture
def as_grader(scorefold: CommandLine, database_url: str) -> Iterator[CommandLine]:
    """The command, connected to a database where everybody has the graders' rights and no more."""
    name = make_url(database_url).database
    owner = make_engine(database_url)
    with owner.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f'ALTER DATABASE "{name}" SET role = scorefold_grader'))
        yield scorefold
        connection.execute(text(f'ALTER DATABASE "{name}" RESET role'))
    owner.dispose()


@pytest.mark.parametrize("command", [("items", "list"), ("models", "list"), ("evaluate",), ("forget", "s1")])
def test_missing_rights_are_one_line(as_grader: CommandLine, command: tuple[str, ...]) -> None:
    done = as_grader(*command)
    assert done.code == 78
    assert "this database login may not do that (permission denied for" in done.err
    assert "docs/security.md" in done.err
    assert "Traceback" not in done.err
    assert len(done.err.strip().splitlines()) == 1
