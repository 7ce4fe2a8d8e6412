"""The night by schedule: audited once, retraining begun until it is done, by a real process."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING, NoReturn

import pytest
from sqlalchemy import text

from db import gw_runs, runs
from scoring.evaluation.policy import read_policy
from tests.schoolhouse import School
from workers.nightly import RETRAIN, Errand, run_nightly

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Connection

    from tests.command_line import CommandLine

PERIOD = "2026-01-01"
ENDLESS = (sys.executable, "-S", "-c", "import time; time.sleep(600)")


@pytest.fixture
def school(tmp_path: Path, database_url: str) -> Iterator[School]:
    made = School.create(tmp_path, database_url)
    yield made
    made.town.close()


def test_an_errand_runs_once_at_a_time_and_ends_with_us() -> None:
    errand = Errand(ENDLESS)
    assert errand.start()
    assert not errand.start()
    first = errand._child
    errand.end()
    assert first is not None
    assert first.poll() is not None
    assert errand.start()
    errand.end()


def test_an_errand_may_have_a_login_of_its_own(tmp_path: Path) -> None:
    told = tmp_path / "told"
    script = (
        f"import os, pathlib; pathlib.Path({str(told)!r}).write_text(os.environ['SCOREFOLD_DATABASE__URL'])"
    )
    errand = Errand((sys.executable, "-S", "-c", script))
    assert errand.start(database_url="postgresql://owner@db/scorefold")
    assert errand._child is not None
    errand._child.wait()
    assert told.read_text() == "postgresql://owner@db/scorefold"
    assert "postgresql://owner" not in " ".join(errand._child.args)


def test_every_tick_begins_the_retraining_until_it_is_done(school: School) -> None:
    errand = Errand((sys.executable, "-S", "-c", ""))
    started = []

    class Counted(Errand):
        def start(self, *_arguments: str, **_login: str | None) -> bool:
            started.append(errand.start())
            assert errand._child is not None
            errand._child.wait()
            return started[-1]

    database = school.town.database
    page = Errand((sys.executable, "-S", "-c", ""))
    assert run_nightly(database, period=PERIOD, retraining=Counted(()), page=page)
    assert not run_nightly(database, period=PERIOD, retraining=Counted(()), page=page)
    assert started == [True, True]
    with database.begin() as connection:
        runs.begin(connection, kind=RETRAIN, period=PERIOD)
        runs.end(connection, kind=RETRAIN, period=PERIOD, report={})
    merging = Errand((sys.executable, "-S", "-c", ""))
    assert not run_nightly(database, period=PERIOD, retraining=Counted(()), merging=merging, page=page)
    assert len(started) == 2
    assert merging._child is not None


def test_merging_begins_once_the_retraining_is_done_and_until_it_is_done_itself(school: School) -> None:
    idle = Errand((sys.executable, "-S", "-c", ""))
    merging = Errand((sys.executable, "-S", "-c", ""))
    database = school.town.database
    for kind in (RETRAIN, gw_runs.KIND):
        run_nightly(database, period=PERIOD, retraining=idle, merging=merging, page=idle)
        assert (merging._child is None) == (kind == RETRAIN)
        with database.begin() as connection:
            runs.begin(connection, kind=kind, period=PERIOD)
            runs.end(connection, kind=kind, period=PERIOD, report={})
    assert merging._child is not None
    first = merging._child
    first.wait()
    run_nightly(database, period=PERIOD, retraining=idle, merging=merging, page=idle)
    assert merging._child is first


def test_an_audit_cut_short_is_made_by_the_next_tick(school: School, monkeypatch: pytest.MonkeyPatch) -> None:
    idle = Errand((sys.executable, "-S", "-c", ""))
    tick = partial(run_nightly, school.town.database, period=PERIOD, retraining=idle, merging=idle, page=idle)

    def cut_short(_: object) -> NoReturn:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(runs, "audit_ledger", cut_short)
        with pytest.raises(KeyboardInterrupt):
            tick()
    assert tick()
    assert not tick()
    idle.end()


def test_an_audit_that_fails_holds_up_nothing_else(school: School, monkeypatch: pytest.MonkeyPatch) -> None:
    errand = Errand((sys.executable, "-S", "-c", ""))
    tick = partial(
        run_nightly, school.town.database, period=PERIOD, retraining=errand, merging=errand, page=errand
    )

    def too_long(connection: Connection) -> NoReturn:
        connection.execute(text("SET LOCAL statement_timeout = 1"))
        connection.execute(text("SELECT pg_sleep(1)"))
        raise AssertionError

    with monkeypatch.context() as patch:
        patch.setattr(runs, "audit_ledger", too_long)
        assert not tick()
    assert errand._child is not None
    assert tick()
    errand.end()


def test_the_scheduled_command_ends_the_period(school: School, scorefold: CommandLine) -> None:
    school.serve("ice")
    command = [sys.executable, "-m", "workers.cli", "retrain", "--due", "--scheduled", "--period", PERIOD]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with school.town.database.connect() as connection:
        assert runs.is_done(connection, kind=RETRAIN, period=PERIOD)
        assert not runs.is_done(connection, kind=RETRAIN, period="2026-01-02")


def test_a_policy_without_schedule_is_kept_to(
    school: School, scorefold: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    school.serve("ice")
    school.read(school.hand_in("ice", 210))
    manual = read_policy().model_dump(mode="json")
    manual["retraining"]["automatic"] = False
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    (home / "policy.toml").write_text(toml_of(manual), encoding="utf-8")
    monkeypatch.setattr("os.nice", lambda _: 0)  # it could not be taken back in this process
    assert scorefold("retrain", "--due", "--scheduled", "--period", PERIOD).code == 0
    assert school.town.count("SELECT count(*) FROM model.training_run") == 0
    assert school.town.count("SELECT (report->>'automatic' = 'false')::int FROM ops.run") == 1
    told = scorefold("retrain", "--dry-run")
    assert "210 new reads" in " ".join(told.out.split())


def toml_of(sections: dict[str, dict[str, object]]) -> str:
    import json

    return "\n".join(
        f"[{section}]\n" + "\n".join(f"{name} = {json.dumps(value)}" for name, value in values.items())
        for section, values in sections.items()
        if values
    )
