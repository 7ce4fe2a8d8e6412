"""kill -9 of each process of the embedded services: nothing committed is lost, nothing is left behind."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import psycopg
import pytest
import redis

from tests.integration.embedded_processes import processes_naming, start_python, wait_until
from workers.embedded.services import ServiceUrls, down, up
from workers.embedded.status import ServerStatus, status

if TYPE_CHECKING:
    from pathlib import Path

_NUM_ROWS = 100


def _connect(urls: ServiceUrls) -> psycopg.Connection[tuple[int]]:
    return psycopg.connect(urls.database.replace("+psycopg", ""), autocommit=True)


def _fill(urls: ServiceUrls) -> None:
    with _connect(urls) as connection, redis.Redis.from_url(urls.broker) as client:
        connection.execute("DROP TABLE IF EXISTS kept")
        connection.execute("CREATE TABLE kept (n int)")
        client.flushdb()
        for n in range(_NUM_ROWS):
            connection.execute("INSERT INTO kept VALUES (%s)", [n])
            client.rpush("kept", n)


def _rows(urls: ServiceUrls) -> list[int]:
    with _connect(urls) as connection:
        return [row[0] for row in connection.execute("SELECT n FROM kept ORDER BY n")]


def _keys(urls: ServiceUrls) -> list[int]:
    with redis.Redis.from_url(urls.broker) as client:
        return [int(n) for n in client.lrange("kept", 0, -1)]


def _server(home: Path, name: str) -> ServerStatus:
    return next(server for server in status(home).servers if server.name == name)


def _kill(pid: int | None) -> None:
    assert pid
    os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("name", ["postgres", "redis"])
def test_killed_server_comes_back_with_all_it_had(home: Path, name: str) -> None:
    urls = up(home)
    _fill(urls)
    before = _server(home, name)
    _kill(before.pid)
    wait_until(lambda: _server(home, name).running and _server(home, name).pid != before.pid)
    assert _server(home, name).num_restarts > before.num_restarts
    assert _rows(urls) == _keys(urls) == list(range(_NUM_ROWS))


def test_killed_supervisor_takes_its_servers_with_it(home: Path) -> None:
    urls = up(home)
    _fill(urls)
    _kill(status(home).owner_pid)
    wait_until(lambda: not processes_naming(home), timeout_s=5)
    assert status(home).owner_pid is None
    assert not down(home)
    assert up(home) == urls
    assert _rows(urls) == _keys(urls) == list(range(_NUM_ROWS))


def test_everything_killed_at_once(home: Path) -> None:
    urls = up(home)
    _fill(urls)
    seen = status(home)
    for pid in (seen.owner_pid, *(server.pid for server in seen.servers)):
        _kill(pid)
    wait_until(lambda: not processes_naming(home), timeout_s=5)
    assert up(home) == urls
    assert _rows(urls) == _keys(urls) == list(range(_NUM_ROWS))


def test_killed_foreground_takes_its_servers_with_it(home: Path) -> None:
    down(home)
    code = """
import sys, time, pathlib
from workers.embedded.services import running
with running(pathlib.Path(sys.argv[1])):
    print("running", flush=True)
    time.sleep(600)
"""
    with start_python(code, home) as foreground:
        assert foreground.stdout
        assert foreground.stdout.readline() == "running\n"
        assert all(server.running for server in status(home).servers)
        foreground.kill()
    wait_until(lambda: not processes_naming(home), timeout_s=5)


def test_supervisor_outlasts_a_server_that_cannot_start(home: Path) -> None:
    urls = up(home)
    _fill(urls)
    marker, owner = home / "postgres" / "PG_VERSION", status(home).owner_pid
    made_by = marker.read_text()
    marker.write_text("16\n")
    restarts = _server(home, "postgres").num_restarts
    _kill(_server(home, "postgres").pid)
    wait_until(lambda: _server(home, "postgres").num_restarts >= restarts + 1)
    assert _keys(urls) == list(range(_NUM_ROWS))
    marker.write_text(made_by)
    wait_until(lambda: _server(home, "postgres").running)
    assert _rows(urls) == list(range(_NUM_ROWS))
    assert status(home).owner_pid == owner
