"""The fixtures that other tests stand on."""

from __future__ import annotations

import redis
from sqlalchemy import create_engine, text


def _tables(url: str) -> int:
    engine = create_engine(url)
    with engine.connect() as connection:
        found = connection.execute(
            text("SELECT count(*) FROM pg_tables WHERE schemaname IN ('ingest', 'score', 'model')")
        ).scalar_one()
    engine.dispose()
    return int(found)


def test_database_is_migrated(database_url: str) -> None:
    assert _tables(database_url) > 0


def test_each_test_has_its_own_database(services, request) -> None:
    first = request.getfixturevalue("database_url")
    assert first != services.database


def test_broker_is_empty_and_not_database_zero(broker_url: str) -> None:
    with redis.Redis.from_url(broker_url) as client:
        assert client.dbsize() == 0
        assert client.connection_pool.connection_kwargs["db"] != 0
