"""The broker as an embedded server: any program that speaks the Redis protocol, on a unix socket only.

It never evicts and keeps an append-only file; what travels through it is not known here.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

import redis

from workers.embedded.binaries import redis_binary

if TYPE_CHECKING:
    from pathlib import Path

    from workers.embedded.home import Home
    from workers.embedded.identity import Identity

_SETTINGS = """\
port 0
unixsocket {socket}
unixsocketperm 700
protected-mode yes
daemonize no
dir {data}
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
loglevel notice
logfile ""
always-show-logo no
set-proc-title no
"""


@dataclass(frozen=True, slots=True)
class RedisServer:
    """The broker's server; whoever owns home may connect, nobody else."""

    home: Home
    name: str = "redis"
    stop_signal: int = signal.SIGTERM
    second_signal: int = signal.SIGINT  # leaves at once when it is stopping already

    @property
    def data(self) -> Path:
        """The data folder."""
        return self.home.redis

    @property
    def log(self) -> Path:
        """What the server prints."""
        return self.home.logs / "redis.log"

    @property
    def url(self) -> str:
        """redis-py URL of database 0."""
        return f"unix://{quote(str(self._socket), safe='/')}?db=0"

    @property
    def _socket(self) -> Path:
        return self.home.sockets / "redis.sock"

    @property
    def _settings(self) -> Path:
        return self.data / "redis.conf"

    def command(self) -> list[str]:
        """The program and its arguments."""
        return [str(redis_binary()), str(self._settings)]

    def prepare(self, identity: Identity) -> None:
        """Make the data folder where there is none, and write the settings."""
        self.data.mkdir(mode=0o700, exist_ok=True)
        self._socket.unlink(missing_ok=True)
        self._settings.write_text(
            _SETTINGS.format(socket=_quote(self._socket), data=_quote(self.data)), encoding="utf-8"
        )
        self._settings.chmod(0o600)
        identity.own(self.data)
        identity.own(self._settings)
        identity.own(self.home.sockets)

    def version(self) -> str | None:
        """Name and version of the server, once it has read its data."""
        client = redis.Redis(unix_socket_path=str(self._socket), socket_timeout=5)
        try:
            info = client.info("server")
        except redis.RedisError:
            return None
        finally:
            client.close()
        if "valkey_version" in info:
            return f"Valkey {info['valkey_version']}"
        return f"Redis {info['redis_version']}"


def _quote(path: Path) -> str:
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'
