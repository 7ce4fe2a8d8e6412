"""The three ways to run a server that refuses root, each with a real one."""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.embedded_processes import WITHOUT_NAMESPACES, as_user, is_root, run_python

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(not is_root(), reason="only root can become other users")

_LIVE = """
import os, pathlib, sys
import psycopg, redis
from workers.embedded.services import down, up
from workers.embedded.status import status

home = pathlib.Path(sys.argv[1])
urls = up(home)
url = urls.database.replace("+psycopg", "")
with psycopg.connect(url) as connection:
    connection.execute("CREATE TABLE IF NOT EXISTS kept (n int)")
    connection.execute("INSERT INTO kept VALUES (1)")
    print(connection.execute("SELECT count(*) FROM kept").fetchone()[0])
with redis.Redis.from_url(urls.broker) as client:
    print(client.incr("kept"))
for server in status(home).servers:
    lines = pathlib.Path(f"/proc/{server.pid}/status").read_text().splitlines()
    print(next(line.split()[2] for line in lines if line.startswith("Uid:")))
print(down(home))
"""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may pass through; pytest's own are closed."""
    folder = Path(tempfile.mkdtemp(prefix="scorefold-test-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


def _lives(home: Path, *prefix: str) -> list[str]:
    done = run_python(_LIVE, home, prefix=prefix)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_ordinary_user(open_folder: Path) -> None:
    nobody = pwd.getpwnam("nobody").pw_uid
    home = open_folder / "home"
    home.mkdir()
    os.chown(home, nobody, -1)
    assert _lives(home, *as_user("nobody")) == ["1", "1", str(nobody), str(nobody), "True"]
    assert {path.stat().st_uid for path in home.rglob("*")} == {nobody}


def test_root_without_namespaces_and_with_them_again(open_folder: Path) -> None:
    """The home that an unprivileged user's servers made serves root's namespace afterwards."""
    home = open_folder / "home"
    dropped = min(entry.pw_uid for entry in pwd.getpwall() if entry.pw_name in ("postgres", "nobody"))
    assert _lives(home, *WITHOUT_NAMESPACES) == ["1", "1", str(dropped), str(dropped), "True"]
    assert (home / "postgres").stat().st_uid == dropped
    assert _lives(home) == ["2", "2", "0", "0", "True"]


def test_root_without_namespaces_below_a_closed_folder(open_folder: Path) -> None:
    open_folder.chmod(0o700)
    refused = run_python(_LIVE, open_folder / "home", prefix=WITHOUT_NAMESPACES)
    assert f"user namespaces are forbidden here and {open_folder} is closed" in refused.stderr
