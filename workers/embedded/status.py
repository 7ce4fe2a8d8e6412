"""How the embedded servers are, for people: looked up without starting, stopping or writing anything."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workers.embedded.home import Home
from workers.embedded.owner import find_owner, read_notes
from workers.embedded.postgres import PostgresServer
from workers.embedded.redis_server import RedisServer

if TYPE_CHECKING:
    from pathlib import Path

    from workers.embedded.owner import ServerNote


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """One server.

    Attributes:
        name: postgres or redis
        running: whether it answers
        pid: its process; None if it does not answer
        version: what it says it is; None if it does not answer
        uptime_s: seconds since its last start; None if it does not answer
        data: its data folder
        num_bytes: size of that folder on disk
        url: where it answers; holds no secret
        num_restarts: how often its supervisor has restarted it
    """

    name: str
    running: bool
    pid: int | None
    version: str | None
    uptime_s: float | None
    data: Path
    num_bytes: int
    url: str
    num_restarts: int


@dataclass(frozen=True, slots=True)
class ServicesStatus:
    """Both servers, and who runs them.

    Attributes:
        home: the folder that holds everything
        owner_pid: the supervisor, or the process that runs the servers in its foreground; None without one
        supervised: whether a server that dies is restarted
        servers: postgres, then redis
    """

    home: Path
    owner_pid: int | None
    supervised: bool
    servers: tuple[ServerStatus, ...]


def status(path: Path) -> ServicesStatus:
    """Look at the services of a home, which need not exist.

    Raises:
        EmbeddedServiceError: the path cannot be a home.
    """
    home = Home.at(path)
    owner = find_owner(home)
    notes = read_notes(home) if owner else {}
    servers = (PostgresServer(home), RedisServer(home))
    return ServicesStatus(
        home=home.root,
        owner_pid=owner.pid if owner else None,
        supervised=owner is not None and owner.kind == "supervisor",
        servers=tuple(_server_status(server, notes.get(server.name)) for server in servers),
    )


def _server_status(server: PostgresServer | RedisServer, note: ServerNote | None) -> ServerStatus:
    version = server.version() if note else None
    answers = note if version else None
    return ServerStatus(
        name=server.name,
        running=answers is not None,
        pid=answers.pid if answers else None,
        version=version,
        uptime_s=time.time() - answers.started_at if answers else None,
        data=server.data,
        num_bytes=_num_bytes(server.data),
        url=server.url,
        num_restarts=note.num_restarts if note else 0,
    )


def _num_bytes(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(parent, name)).st_blocks * 512  # noqa: PTH118
            except FileNotFoundError:  # servers delete files while we look
                continue
    return total
