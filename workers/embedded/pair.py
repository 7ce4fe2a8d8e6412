"""Both servers together, as children of whoever owns the home.

Knows the order of starting and stopping; whether a dead server comes back is the owner's decision.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workers.embedded.binaries import postgres_binary
from workers.embedded.identity import find_identity
from workers.embedded.leftovers import stop_orphan
from workers.embedded.owner import ServerNote, read_notes, write_notes
from workers.embedded.postgres import PostgresServer
from workers.embedded.redis_server import RedisServer
from workers.embedded.server import ServerProcess

if TYPE_CHECKING:
    from workers.embedded.home import Home


class ServerPair:
    """Postgres and the Redis server of one home; the caller holds the home's lock."""

    def __init__(self, home: Home) -> None:
        identity = find_identity(postgres_binary("postgres"))
        self._home = home
        self._postgres = PostgresServer(home)
        self.processes = [ServerProcess(server, identity) for server in (self._postgres, RedisServer(home))]

    def start(self) -> None:
        """Start both and wait until both answer.

        Raises:
            EmbeddedServiceError: one of them cannot start; neither runs then.
        """
        notes = read_notes(self._home)
        try:
            for process in self.processes:
                if note := notes.get(process.server.name):
                    stop_orphan(note.pid, process.server.data, process.server.stop_signal)
                process.start()
            self.note()
            for process in self.processes:
                process.wait()
            self._postgres.create_database()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop both and wait until they are gone."""
        for process in reversed(self.processes):
            process.stop()

    def note(self) -> None:
        """Write down who runs, for `status` and for the next owner."""
        write_notes(
            self._home,
            [
                ServerNote(process.server.name, process.pid, process.started_at, process.num_restarts)
                for process in self.processes
                if process.pid is not None
            ],
        )
