"""CPU seconds of other processes: what a busy machine does beside them does not count."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import text

from db.session import make_engine

if TYPE_CHECKING:
    from sqlalchemy import Connection


def cpu_s(pid: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def backend_pid(connection: Connection) -> int:
    """The server's process that works for a connection."""
    return int(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())


class BackendClock:
    """CPU seconds of the server's processes that work for one database, the watcher's own left out."""

    def __init__(self, url: str) -> None:
        self._engine = make_engine(url)
        self._connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        self._seen: dict[int, float] = {}

    def look(self) -> None:
        """Note where they are; those that have ended keep their last figure."""
        backends = self._connection.execute(
            text("""
                SELECT pid FROM pg_stat_activity
                WHERE datname = current_database() AND pid <> pg_backend_pid()
            """)
        ).scalars()
        for pid in backends:
            try:
                self._seen[pid] = cpu_s(pid)
            except FileNotFoundError:
                continue

    def total_s(self) -> float:
        """All that was seen; the watcher leaves."""
        self._connection.close()
        self._engine.dispose()
        return sum(self._seen.values())
