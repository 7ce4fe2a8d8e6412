"""Where things are: URLs from the settings, else the embedded servers of the home folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from redis import ConnectionPool
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from scoring.errors import EmbeddedServiceError
from workers.settings import PREFIX, SettingsError

if TYPE_CHECKING:
    from workers.settings import Settings


def database_url(settings: Settings) -> str:
    """The SQLAlchemy URL of Postgres; a URL in the settings wins.

    Raises:
        EmbeddedServiceError: none is set and the embedded server is not running.
        SettingsError: the URL in the settings is no Postgres URL.
    """
    if settings.database.url is not None:
        return _with_driver(settings.database.url.get_secret_value())
    return _embedded(settings, "postgres")


def broker_url(settings: Settings) -> str:
    """The redis-py URL of the broker; a URL in the settings wins.

    Raises:
        EmbeddedServiceError: none is set and the embedded server is not running.
        SettingsError: the URL in the settings is no Redis URL.
    """
    if settings.broker.url is not None:
        return _checked_broker(settings.broker.url.get_secret_value())
    return _embedded(settings, "redis")


def needs_embedded(settings: Settings) -> bool:
    """Whether any of the two servers is ours to run."""
    return settings.database.url is None or settings.broker.url is None


def _embedded(settings: Settings, name: str) -> str:
    from workers.embedded.status import status

    server = next(one for one in status(settings.home.path).servers if one.name == name)
    if not server.running:
        raise EmbeddedServiceError(
            f"{name} does not run in {settings.home.path}: start it with `scorefold up`,"
            f" or name another server in SCOREFOLD_{'DATABASE' if name == 'postgres' else 'BROKER'}__URL"
        )
    return server.url


def _with_driver(url: str) -> str:
    for plain in ("postgresql://", "postgres://"):
        if url.startswith(plain):
            url = "postgresql+psycopg://" + url.removeprefix(plain)
    try:
        known = make_url(url).drivername == "postgresql+psycopg"
    except (ArgumentError, ValueError):
        known = False
    if not known:
        raise SettingsError(f"{PREFIX}DATABASE__URL: write postgresql://user:password@host:port/database")
    return url


def _checked_broker(url: str) -> str:
    try:
        ConnectionPool.from_url(url)
    except ValueError:
        # From None: the foreign error may quote the URL, and with it the password.
        raise SettingsError(
            f"{PREFIX}BROKER__URL: write redis://:password@host:port/number, rediss:// or unix://"
        ) from None
    return url
