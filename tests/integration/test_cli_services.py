"""The verbs for servers and schema, on the embedded servers and on a database of the test's own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from alembic import command
from sqlalchemy import create_engine, pool, text

from db import migrate
from workers.settings import environment_names

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Engine

    from tests.command_line import CommandLine

NOWHERE = "127.0.0.1:1"
SECRET = "hunter2"


@pytest.fixture
def database(database_url: str) -> Iterator[Engine]:
    engine = create_engine(database_url, poolclass=pool.NullPool)
    yield engine
    engine.dispose()


@pytest.fixture
def at_home(scorefold: CommandLine, home: Path) -> CommandLine:
    """The command with nothing set but the home folder."""
    scorefold.set(HOME__PATH=home, DATABASE__URL=None, BROKER__URL=None)
    return scorefold


def test_up_status_health_and_down(at_home, home):
    started = at_home("up")
    assert (started.code, started.err) == (0, "")
    assert f"the schema is at {migrate.head()}" in started.out
    assert "SQL:  " in started.out
    again = at_home("up", "--json")
    assert json.loads(again.out) == {"home": str(home), "revision": migrate.head()}

    told = json.loads(at_home("status", "--json").out)
    servers = {one["name"]: one for one in told["servers"]}
    assert servers.keys() == {"postgres", "redis"}
    assert all(one["running"] and one["pid"] > 0 and one["num_bytes"] > 0 for one in servers.values())
    assert told["work"] == {"ready": 0, "leased": 0, "done": 0, "quarantined": 0}
    assert told["batches"] == []
    shown = at_home("status")
    assert "ledger: 0 ready, 0 leased, 0 done, 0 quarantined" in shown.out
    assert "redis" in shown.out

    assert at_home("health").out == "healthy\n"
    assert at_home("migrate", "--check").code == 0

    stopped = at_home("down")
    assert (stopped.code, stopped.out) == (0, "stopped\n")
    assert (at_home("down").code, at_home("down").out) == (0, "nothing was running\n")
    ill = at_home("health", "--json")
    assert ill.code == 1
    faults = json.loads(ill.out)["faults"]
    assert [fault.split(" in ")[0] for fault in faults] == ["postgres does not run", "redis does not run"]
    assert all("scorefold up" in fault for fault in faults)
    away = at_home("status")
    assert (away.code, away.err) == (1, "Postgres does not run: start it with `scorefold up`\n")
    refused = at_home("scores")
    assert (refused.code, refused.out) == (69, "")
    assert refused.err.startswith(f"error: postgres does not run in {home}: ")


def test_servers_named_elsewhere_are_left_alone(scorefold, tmp_path):
    done = scorefold("up", "--json")
    assert (done.code, json.loads(done.out)["revision"]) == (0, migrate.head())
    assert not (tmp_path / "home").exists()
    told = json.loads(scorefold("status", "--json").out)
    assert (told["servers"], told["batches"]) == ([], [])
    assert scorefold("health").out == "healthy\n"


def test_health_names_what_is_away_and_no_password(scorefold):
    scorefold.set(
        DATABASE__URL=f"postgresql://me:{SECRET}@{NOWHERE}/x", BROKER__URL=f"redis://:{SECRET}@{NOWHERE}"
    )
    done = scorefold("health", "--json")
    told = json.loads(done.out)
    assert (done.code, done.err, told["healthy"]) == (1, "", False)
    assert len(told["faults"]) == 2
    assert told["faults"][0].startswith("Postgres does not answer: ")
    assert "Redis does not answer" in told["faults"][1]
    assert SECRET not in done.out
    assert scorefold("health").out.count("\n") == 2


def test_an_empty_database_is_named_as_such_by_every_verb(scorefold, database):
    with migrate._locked_connection(database.url.render_as_string(hide_password=False)) as connection:
        command.downgrade(migrate._config(connection), "base")
        connection.commit()
    ill = scorefold("health")
    assert (ill.code, "run `scorefold migrate`" in ill.out) == (1, True)
    for verb in (("status",), ("scores",), ("items", "list"), ("scores", "--summary")):
        done = scorefold(*verb)
        assert (done.code, done.out) == (78, "")
        assert done.err.startswith("error: the schema does not fit this code")
        assert done.err.endswith("run `scorefold migrate`\n")
        assert done.err.count("\n") == 1
    assert scorefold("migrate", "--check").code == 1
    assert scorefold("migrate").out == f"the schema is at {migrate.head()}\n"
    assert scorefold("migrate", "--check").code == 0
    assert scorefold("health").code == 0


def test_tables_that_were_changed_by_hand_are_told(scorefold, database):
    assert scorefold("migrate", "--check").out == ""
    execute(database, "ALTER TABLE ingest.batch ADD COLUMN spare int")
    done = scorefold("migrate", "--check")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: the tables differ from the code: ")
    assert done.err.count("\n") == 1
    assert "spare" in done.err


def test_a_schema_from_the_future_is_left_alone(scorefold, database):
    execute(database, "UPDATE alembic_version SET version_num = '9999'")
    for verb in ("migrate", "up"):
        done = scorefold(verb)
        assert (done.code, done.out) == (78, "")
        assert done.err.startswith("error: the schema is newer than this code: ")
        assert done.err.count("\n") == 1
    # Migrations expand before they contract: code that is one step behind goes on.
    assert scorefold("health").out == "healthy\n"


def execute(database: Engine, statement: str) -> None:
    with database.begin() as connection:
        connection.execute(text(statement))


def test_settings_show_all_names_and_no_secret(scorefold):
    scorefold.set(
        DATABASE__URL=f"postgresql://me:{SECRET}@db/x", BROKER__URL=f"redis://:{SECRET}@b", WORKER__LEASE_S=7
    )
    done = scorefold("settings", "--json")
    told = json.loads(done.out)
    assert told.keys() == environment_names().keys()
    assert told["SCOREFOLD_DATABASE__URL"]["value"] == "(set)"
    assert told["SCOREFOLD_WORKER__LEASE_S"] == {"value": 7.0, "meaning": "a claim's life without renewal"}
    table = scorefold("settings")
    assert SECRET not in done.out + done.err + table.out + table.err
    assert all(name in table.out for name in environment_names())


@pytest.mark.parametrize(
    ("name", "value"),
    [("WORKER__LEASE_S", "soon"), ("WORKER__LEASE", SECRET), ("DATABASE__URL", f"mysql://me:{SECRET}@db/x")],
)
def test_wrong_settings_end_with_78_and_name_the_setting(scorefold, name, value):
    scorefold.set(**{name: value})
    done = scorefold("status")
    assert (done.code, done.out) == (78, "")
    assert f"SCOREFOLD_{name}" in done.err
    assert done.err.count("\n") == 1
    assert SECRET not in done.err
