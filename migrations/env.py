"""Runs migrations on the connection that `db.migrate` hands over, or on the database of the settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alembic import context
from alembic.util.exc import CommandError
from sqlalchemy import create_engine, pool

from db.models import metadata
from db.models.schema import SCHEMAS

if TYPE_CHECKING:
    from sqlalchemy import Connection


def _include_name(name: str | None, kind: str, _parents: object) -> bool:
    return name in SCHEMAS if kind == "schema" else True


def _run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        include_schemas=True,
        include_name=_include_name,
        compare_type=True,
        compare_server_default=False,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()


def _database_url() -> str:
    from scoring.errors import ScorefoldError
    from workers.places import database_url
    from workers.settings import load_settings

    try:
        return database_url(load_settings())
    except ScorefoldError as error:
        raise CommandError(str(error)) from error


def run_migrations() -> None:
    """Use the connection in the configuration's attributes, else open one."""
    connection = context.config.attributes.get("connection")
    if connection is not None:
        _run(connection)
        return
    engine = create_engine(_database_url(), poolclass=pool.NullPool)
    with engine.connect() as opened:
        _run(opened)


run_migrations()
