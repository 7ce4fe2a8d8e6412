"""Embedded services from outside: up, down, running and status on real servers."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path

import kombu
import pytest
import redis
from sqlalchemy import create_engine, text

from scoring.errors import EmbeddedServiceError
from tests.integration.embedded_processes import (
    as_user,
    copy_of,
    is_root,
    processes_naming,
    run_python,
    start_python,
)
from workers.embedded.services import ServiceUrls, down, psql_command, running, up
from workers.embedded.status import status
from workers.embedded.urls import kombu_url


def _ask(urls: ServiceUrls, question: str) -> object:
    engine = create_engine(urls.database)
    with engine.connect() as connection:
        answer = connection.execute(text(question)).scalar_one()
    engine.dispose()
    return answer


def test_up_is_idempotent_and_down_as_well(home: Path) -> None:
    first = up(home)
    owner = status(home).owner_pid
    assert up(home) == first
    assert status(home).owner_pid == owner
    assert down(home)
    assert not processes_naming(home)
    assert not down(home)


def test_concurrent_ups_start_one_supervisor(home: Path) -> None:
    down(home)
    code = (
        "import sys, pathlib; from workers.embedded.services import up; print(up(pathlib.Path(sys.argv[1])))"
    )
    starters = [start_python(code, home) for _ in range(2)]
    said = {starter.communicate(timeout=60)[0] for starter in starters}
    assert [starter.returncode for starter in starters] == [0, 0]
    assert len(said) == 1
    supervisors = [command for command in processes_naming(home).values() if "embedded.supervisor" in command]
    assert len(supervisors) == 1


def test_status_tells_what_runs(home: Path) -> None:
    urls = up(home)
    seen = status(home)
    postgres, broker = seen.servers
    assert seen.supervised
    assert (postgres.name, postgres.url, postgres.running) == ("postgres", urls.database, True)
    assert (broker.name, broker.url, broker.running) == ("redis", urls.broker, True)
    assert postgres.version is not None
    assert postgres.version.startswith("Postgres 18")
    assert str(postgres.data) in processes_naming(home)[postgres.pid or 0]
    assert str(broker.data) in processes_naming(home)[broker.pid or 0]
    assert 0 <= (postgres.uptime_s or -1) < 300
    assert postgres.num_bytes > 10 * 2**20


def test_status_and_down_leave_no_trace(tmp_path: Path) -> None:
    seen = status(tmp_path / "nowhere")
    assert not down(tmp_path / "nowhere")
    assert [server.running for server in seen.servers] == [False, False]
    assert seen.owner_pid is None
    assert not list(tmp_path.iterdir())


def test_servers_are_set_up_for_a_ledger_and_a_broker(home: Path) -> None:
    urls = up(home)
    show = {
        "data_checksums": "on",
        "listen_addresses": "",
        "server_encoding": "UTF8",
        "fsync": "on",
        "max_connections": "100",
        "shared_buffers": "128MB",
        "TimeZone": "UTC",
    }
    assert {name: _ask(urls, f"SHOW {name}") for name in show} == show
    assert _ask(urls, "SELECT lower('ÄÖÜ')") == "äöü"
    with redis.Redis.from_url(urls.broker) as client:
        config = client.config_get("*")
    assert (config["maxmemory-policy"], config["appendonly"], config["appendfsync"]) == (
        "noeviction",
        "yes",
        "everysec",
    )
    assert (config["save"], config["port"]) == ("", "0")


def test_psql_line_works(home: Path) -> None:
    up(home)
    done = subprocess.run(
        [*psql_command(home), "-Atc", "SELECT current_database()"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "scorefold\n"


def test_logs_hold_no_answer_text(home: Path) -> None:
    urls = up(home)
    engine = create_engine(urls.database)
    with engine.connect() as connection:
        connection.execute(
            text("CREATE TEMPORARY TABLE t (body text UNIQUE CHECK (body <> 'forbidden-words'))")
        )
        connection.execute(text("INSERT INTO t VALUES ('secret-words')"))
        connection.commit()
        for body in ("secret-words", "forbidden-words"):
            with pytest.raises(Exception, match=body):
                connection.execute(text(f"INSERT INTO t VALUES ('{body}')"))
            connection.rollback()
    engine.dispose()
    logs = "".join(path.read_text() for path in (home / "logs").iterdir())
    assert "database system is ready" in logs
    assert "-words" not in logs


def test_servers_see_nothing_of_the_callers_environment(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    down(home)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-for-servers")
    up(home)
    pids = [server.pid for server in status(home).servers]
    assert all(b"not-for-servers" not in Path(f"/proc/{pid}/environ").read_bytes() for pid in pids)


def test_running_ends_with_its_block(home: Path) -> None:
    down(home)
    with running(home) as urls:
        assert _ask(urls, "SELECT 1") == 1
        assert not status(home).supervised
        with pytest.raises(EmbeddedServiceError, match="another process runs the services"), running(home):
            pass
        with pytest.raises(EmbeddedServiceError, match="belong to process"):
            down(home)
        assert _ask(urls, "SELECT 2") == 2
    assert processes_naming(home).keys() <= {os.getpid()}


def test_running_refuses_a_thread_whose_end_would_end_the_servers(home: Path) -> None:
    down(home)
    raised: list[EmbeddedServiceError] = []

    def start() -> None:
        try:
            with running(home):
                pass
        except EmbeddedServiceError as error:
            raised.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert "main thread" in str(raised[0])


def _check_both_clients(urls: ServiceUrls) -> None:
    broker = urls.broker.replace("db=0", "db=3")
    with kombu.Connection(kombu_url(broker)) as connection, connection.SimpleQueue("q") as queue:
        queue.put({"n": 1})
        with redis.Redis.from_url(broker) as client:
            assert client.llen("q") == 1
        assert queue.get(timeout=5).payload == {"n": 1}
    assert _ask(urls, "SELECT 1") == 1


def test_home_with_awkward_letters(home: Path, tmp_path: Path) -> None:
    path = copy_of(home, tmp_path.parent / 'it\'s "a" \\100% #&=;~ déep')
    with running(path) as urls:
        assert not (path / "sockets").is_symlink()
        _check_both_clients(urls)


@pytest.mark.parametrize("name", ["d" * 100, "a,comma"])
def test_home_whose_sockets_need_another_folder(home: Path, tmp_path: Path, name: str) -> None:
    path = copy_of(home, tmp_path / name)
    with running(path) as urls:
        _check_both_clients(urls)
        elsewhere = (path / "sockets").resolve()
        assert elsewhere.stat().st_mode & 0o777 == 0o700
        assert subprocess.run([*psql_command(path), "-c", ""], check=False).returncode == 0
    assert not list(elsewhere.iterdir())
    elsewhere.rmdir()
    with running(path) as urls:  # as after a reboot, which empties the temp folder
        assert _ask(urls, "SELECT 1") == 1
    elsewhere.rmdir()


def test_kombu_url_leaves_tcp_alone() -> None:
    assert kombu_url("redis://:secret@localhost:6379/2") == "redis://:secret@localhost:6379/2"


def test_peers_of_other_users_are_refused_even_behind_an_open_folder(home: Path) -> None:
    if not is_root():
        pytest.skip("only root can become other users")
    up(home)
    sockets = home / "sockets"
    sockets.chmod(0o711)
    (sockets / ".s.PGSQL.5432").chmod(0o777)
    code = (
        "import sys, psycopg; psycopg.connect(host=sys.argv[1], user='scorefold', dbname='scorefold').close()"
    )
    assert run_python(code, sockets).returncode == 0
    for user in ("daemon", "nobody"):
        stranger = run_python(code, sockets, prefix=as_user(user))
        assert 'Peer authentication failed for user "scorefold"' in stranger.stderr
    up(home)
    assert sockets.stat().st_mode & 0o777 == 0o700
