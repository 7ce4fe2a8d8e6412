"""What all tests stand on: real servers once a run, a database for each test, a clean environment."""

from __future__ import annotations

import os
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
import redis
from psycopg import sql
from sqlalchemy import make_url

from workers.embedded.services import ServiceUrls, down, running, up

if TYPE_CHECKING:
    from collections.abc import Iterator

# While collecting, before a test module is imported: a developer's own settings must not reach a test.
_GIVEN_DATABASE_URL = os.environ.get("SCOREFOLD_TEST_DATABASE_URL")
_GIVEN_BROKER_URL = os.environ.get("SCOREFOLD_TEST_BROKER_URL")
for _name in [name for name in os.environ if name.startswith("SCOREFOLD_")]:
    del os.environ[_name]
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
if "PYTEST_XDIST_WORKER" in os.environ:
    # Processes that share the cores must not each take all of them.
    os.environ["OMP_NUM_THREADS"] = "1"

_ROOT = Path(__file__).resolve().parent.parent
_MARKED_FOLDERS = {"integration": "integration", "chaos": "chaos", "benchmarks": "benchmark"}
#: Tests flush their broker database, so they keep away from 0, where a developer's queues may live.
_BROKER_DB = 15


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--short` for benchmarks that take an hour or more."""
    parser.addoption("--short", action="store_true", help="benchmarks: a version that takes minutes")


def pytest_configure(config: pytest.Config) -> None:
    """Keep pytest-alembic from binding its own tests to this file: we import those that we want."""
    config.option.pytest_alembic_tests_path = "migrations/env.py"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark tests by their folder; leave out benchmarks and long ones unless `-m` speaks of them."""
    for item in items:
        folder = item.path.relative_to(_ROOT / "tests").parts[0]
        if mark := _MARKED_FOLDERS.get(folder):
            item.add_marker(mark)
    for mark in ("benchmark", "long"):
        if mark not in config.option.markexpr:
            left_out = [item for item in items if item.get_closest_marker(mark)]
            config.hook.pytest_deselected(items=left_out)
            items[:] = [item for item in items if not item.get_closest_marker(mark)]


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceUrls]:
    """Both servers, started once a run; `SCOREFOLD_TEST_*_URL` name others to use instead."""
    if _GIVEN_DATABASE_URL and _GIVEN_BROKER_URL:
        yield ServiceUrls(database=_GIVEN_DATABASE_URL, broker=_GIVEN_BROKER_URL)
        return
    with running(tmp_path_factory.mktemp("services")) as urls:
        _stop_syncing(urls.database)
        yield ServiceUrls(
            database=_GIVEN_DATABASE_URL or urls.database, broker=_GIVEN_BROKER_URL or urls.broker
        )


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home for tests of the embedded services themselves: up or down as the last test left it."""
    path = tmp_path_factory.mktemp("embedded") / "home"
    up(path)
    yield path
    down(path)


@pytest.fixture(scope="session")
def _template(services: ServiceUrls) -> Iterator[str]:
    """A database with all migrations applied, for others to be cloned from."""
    try:
        from db.migrate import upgrade
    except ModuleNotFoundError as error:
        pytest.fail(
            f"database_url needs db.migrate.upgrade(url) to fill its template: {error}", pytrace=False
        )
    name = f"scorefold_template_{uuid.uuid4().hex[:8]}"
    with _fresh_database(services.database, name) as url:
        upgrade(url)
        yield name


@pytest.fixture
def database_url(services: ServiceUrls, _template: str) -> Iterator[str]:
    """SQLAlchemy URL of a migrated, empty database of this test's own."""
    with _fresh_database(
        services.database, f"scorefold_test_{uuid.uuid4().hex[:8]}", template=_template
    ) as url:
        yield url


@pytest.fixture
def broker_url(services: ServiceUrls) -> Iterator[str]:
    """redis-py URL of an empty broker database (`workers.embedded.urls.kombu_url` makes it Celery's)."""
    url = _with_broker_db(services.broker)
    client = redis.Redis.from_url(url)
    client.flushdb()
    yield url
    client.flushdb()
    client.close()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of data sets beside the repository, which are used in place and never copied into it."""
    folder = _ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no data sets in ../shared/data beside the repository")
    return folder


@contextmanager
def _fresh_database(server: str, name: str, *, template: str = "template1") -> Iterator[str]:
    """A database for the length of the block; whoever is still connected at its end is thrown out."""
    base = make_url(server)
    admin = base.set(drivername="postgresql").render_as_string(hide_password=False)
    create = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(create)
        try:
            yield base.set(database=name).render_as_string(hide_password=False)
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _stop_syncing(server: str) -> None:
    """Spare the disk: these data outlive a killed process, and need not outlive a power cut."""
    admin = make_url(server).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET fsync = off")
        connection.execute("SELECT pg_reload_conf()")


def _with_broker_db(url: str) -> str:
    if url.startswith("unix://"):
        return f"{url.partition('?')[0]}?db={_BROKER_DB}"
    return urlunsplit(urlsplit(url)._replace(path=f"/{_BROKER_DB}"))
