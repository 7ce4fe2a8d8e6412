"""The morning by itself: written when something has been settled, reads drawn once, by a real process."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from db import runs
from db.session import make_engine
from tests import graded
from workers.nightly import Errand, run_nightly
from workers.report.schedule import MORNING, run_morning
from workers.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Engine

    from tests.command_line import CommandLine

PERIOD = "2026-01-01"
IDLE = (sys.executable, "-S", "-c", "")


@pytest.fixture
def database(database_url: str) -> Iterator[Engine]:
    engine = make_engine(database_url)
    with engine.begin() as connection:
        graded.score_a_night(connection)
    yield engine
    engine.dispose()


def is_due(database: Engine, period: str = PERIOD) -> bool:
    with database.connect() as connection:
        return runs.is_morning_due(connection, period=period)


def num_drawn(database: Engine) -> int:
    with database.connect() as connection:
        found = connection.execute(
            text("SELECT count(*) FROM score.read_request WHERE requested_by = 'nightly'")
        )
        return int(found.scalar_one())


def test_a_page_is_due_once_a_day_and_when_something_has_been_settled_since(
    database: Engine, tmp_path: Path
) -> None:
    settings = Settings(home={"path": tmp_path}, reads={"share": 0.5})
    assert is_due(database)
    path = run_morning(database, settings, period=PERIOD)
    assert path.is_file()
    drawn = num_drawn(database)
    assert drawn > 50
    assert not is_due(database)
    assert is_due(database, "2026-01-02")
    with database.begin() as connection:
        connection.execute(text("UPDATE ingest.work SET state = 'ready' WHERE submission_id = 7"))
    assert not is_due(database)
    done = "UPDATE ingest.work SET state = 'done', finished_at = clock_timestamp() WHERE submission_id = 7"
    with database.begin() as connection:
        connection.execute(text(done))
    assert is_due(database)
    run_morning(database, settings, period=PERIOD)
    assert not is_due(database)
    assert num_drawn(database) == drawn


def test_a_retraining_that_ends_makes_a_page_due(database: Engine, tmp_path: Path) -> None:
    run_morning(database, Settings(home={"path": tmp_path}), period=PERIOD)
    with database.begin() as connection:
        runs.begin(connection, kind="retrain", period=PERIOD)
        runs.end(connection, kind="retrain", period=PERIOD, report={})
    assert is_due(database)


def test_a_tick_begins_the_page_until_it_is_there(database: Engine, tmp_path: Path) -> None:
    started = []

    class Counted(Errand):
        def start(self, *_arguments: str) -> bool:
            started.append(1)
            return True

    def tick() -> None:
        run_nightly(database, period=PERIOD, retraining=Errand(IDLE), page=Counted(IDLE))

    tick()
    tick()
    assert len(started) == 2
    run_morning(database, Settings(home={"path": tmp_path}), period=PERIOD)
    tick()
    assert len(started) == 2


def test_the_scheduled_command_writes_the_page_and_notes_it(
    database: Engine, scorefold: CommandLine, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "workers.cli", "report", "--scheduled"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "page_written" in done.stderr
    folder = tmp_path / "home" / "reports"
    assert sorted(path.suffix for path in folder.iterdir()) == [".html", ".html"]
    with database.connect() as connection:
        row = connection.execute(
            text("SELECT state, report FROM ops.run WHERE kind = :k"), {"k": MORNING}
        ).one()
    assert row.state == "done"
    assert (folder / row.report["file"]).is_file()
