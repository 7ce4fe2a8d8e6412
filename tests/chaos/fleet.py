"""A town under siege: servers of its own, workers kept at their number, scorers to promote and roll back."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from typing import TYPE_CHECKING

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from db import aliases, registry
from db.migrate import upgrade
from tests.chaos.nursery import Nursery
from tests.deployment import ITEMS, Deployment
from workers.embedded.services import down, up
from workers.embedded.status import status

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LEASE_S = 3.0
#: Longer than a lease without renewal.
SLOW_S = 4.0
_SETTINGS = {
    "SCOREFOLD_WORKER__LEASE_S": LEASE_S,
    "SCOREFOLD_WORKER__MAX_IDS_PER_MESSAGE": 16,
    "SCOREFOLD_WORKER__STALE_S": 8,
    "SCOREFOLD_WORKER__BACKOFF_S": 0.1,
    "SCOREFOLD_INTAKE__STREAM_IDLE_S": 2,
    "SCOREFOLD_TELEMETRY__LOG_FORMAT": "json",
    "CHAOS_SLOW_S": SLOW_S,
    "OMP_NUM_THREADS": 1,
    "HF_HUB_OFFLINE": 1,
    # Rounds are quicker than in production: three minutes stand for a night.
    "SCOREFOLD_WORKER__SWEEP_INTERVAL_S": 0.5,
    "SCOREFOLD_WORKER__IDLE_STALE_S": 2,
}


class Fleet:
    """Postgres, Redis, and a number of workers that is kept up as a supervisor would."""

    def __init__(self, folder: Path, *, num_workers: int, mutant: str | None) -> None:
        self.folder = folder
        self._home = folder / "home"
        urls = up(self._home)
        upgrade(urls.database)
        self.tally = folder / "tally"
        special = {"CHAOS_TALLY": self.tally, **({"CHAOS_MUTANT": mutant} if mutant else {})}
        self.town = Deployment.create(
            folder, database_url=urls.database, broker_url=urls.broker, **_SETTINGS, **special
        )
        self.broker_url = urls.broker
        self._stop_syncing()
        self.rivals = {
            item: self.town.add_scorer(item, levels, seed=100 + place, promote=False)
            for place, (item, levels) in enumerate(ITEMS.items())
        }
        self.log = folder / "workers.log"
        self._nursery = Nursery(self.town.environment, self.log)
        self._num_workers = num_workers
        self._expected: set[int] = set()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self.living: list[int] = []
        #: Exits that no adversary caused, with their codes.
        self.ended: list[int] = []
        self._keeper = threading.Thread(target=self._keep, name="fleet")

    def start(self) -> None:
        """Bring the workers up and keep them at their number."""
        self._keeper.start()

    def wait_until_ready(self) -> None:
        """Wait for every worker's first words."""
        deadline = time.monotonic() + 120
        while not self.log.exists() or self.log.read_text().count("worker_ready") < self._num_workers:
            if time.monotonic() > deadline or len(self.ended) > 3 * self._num_workers:
                raise RuntimeError(f"the workers do not come up: see {self.log}")
            time.sleep(0.1)

    def close(self) -> None:
        """Stop everything."""
        self._closing.set()
        if self._keeper.is_alive():
            self._keeper.join()
        self._nursery.close()
        self.town.close()
        down(self._home)

    def pick(self) -> list[int]:
        """The workers that live now."""
        with self._lock:
            return list(self.living)

    def kill(self, pid: int, number: int = signal.SIGKILL) -> None:
        """Send a signal that ends a worker; its end is no surprise then.

        Raises:
            ProcessLookupError: it has ended by itself.
        """
        # Under the lock, so that an end before the signal is not taken for one after it.
        with self._lock:
            os.kill(pid, number)
            self._expected.add(pid)

    def kill_server(self, name: str, number: int) -> None:
        """Kill Redis or Postgres; the product's own supervisor starts it again."""
        server = next(one for one in status(self._home).servers if one.name == name)
        if server.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(server.pid, number)

    def promote(self, item: str) -> None:
        """Make an item's other scorer its champion."""
        with self.town.database.begin() as connection:
            registry.promote(connection, [self.rivals[item]], actor="adversary", reason="chaos")

    def roll_back(self, item: str) -> None:
        """Put an item's first scorer back."""
        with self.town.database.begin() as connection:
            aliases.rollback(connection, [item], actor="adversary", reason="chaos")

    def holder(self, response_id: str) -> int | None:
        """The process that has leased this answer."""
        with self.town.database.connect() as connection:
            worker = connection.execute(
                text("""
                    SELECT l.worker FROM ingest.submission s JOIN ingest.work w USING (submission_id)
                    JOIN ingest.lease l USING (token) WHERE s.response_id = :id AND w.state = 'leased'
                """),
                {"id": response_id},
            ).scalar()
        return int(worker.rpartition("/")[2]) if worker else None

    @contextlib.contextmanager
    def frozen(self, pid: int) -> Iterator[None]:
        """A process stands still for the length of the block.

        Raises:
            ProcessLookupError: it has ended by itself.
        """
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def patiently(self, query: str) -> int:
        """A number from the ledger, as soon as Postgres answers."""
        deadline = time.monotonic() + 60
        while True:
            try:
                return self.town.count(query)
            except DBAPIError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def _keep(self) -> None:
        while not self._closing.wait(0.1):
            with self._lock:
                for pid in [pid for pid in self.living if pid in self._nursery.exits]:
                    self.living.remove(pid)
                    if pid not in self._expected:
                        self.ended.append(self._nursery.exits[pid])
                num_missing = self._num_workers - len(self.living)
            for _ in range(num_missing):
                pid = self._nursery.start()
                with self._lock:
                    self.living.append(pid)

    def _stop_syncing(self) -> None:
        # These data outlive killed processes, and need not outlive a power cut.
        with self.town.database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("ALTER SYSTEM SET fsync = off"))
            connection.execute(text("SELECT pg_reload_conf()"))
