"""Whether this machine could work: the servers answer and the schema fits the code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import redis
from sqlalchemy import text

from db import migrate
from db.session import make_engine
from scoring.errors import ScorefoldError
from workers import places
from workers.writer import database_errors

if TYPE_CHECKING:
    from workers.settings import Settings


def check_health(settings: Settings) -> list[str]:
    """One line for each thing that is not as it must be; empty when all is well."""
    return [fault for check in (_database_fault, _broker_fault) if (fault := check(settings)) is not None]


def _database_fault(settings: Settings) -> str | None:
    try:
        database = make_engine(places.database_url(settings))
        with database_errors(), database.connect() as connection:
            connection.execute(text("SELECT 1"))
            revision = migrate.current(connection)
    except ScorefoldError as error:
        return str(error)
    if revision != migrate.head():
        return f"the schema is at {revision}, this code needs {migrate.head()}: run `scorefold migrate`"
    return None


def _broker_fault(settings: Settings) -> str | None:
    try:
        redis.Redis.from_url(places.broker_url(settings), socket_timeout=5.0).ping()
    except (ScorefoldError, redis.RedisError) as error:
        return str(error) if isinstance(error, ScorefoldError) else "Redis does not answer"
    return None
