"""A small deployment for tests: database, broker, a tiny encoder, scorers, and real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import text

from db import registry
from db.registry import ItemRecord, TraitRecord
from db.session import make_engine
from scoring.artifacts import ArtifactStore
from scoring.backbone import Backbone
from tests.unit.tiny_encoders import WORDS, write_adapter, write_encoder, write_scorer
from workers.records import stored_record

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine as Database

#: One ordinal item of each width, and a multi-label one.
ITEMS: dict[str, tuple[int, ...]] = {"two": (2,), "three": (3,), "four": (4,), "many": (2, 2, 2)}


@dataclass
class Deployment:
    """Everything that `scorefold` commands need, and the processes that a test started."""

    folder: Path
    database: Database
    environment: dict[str, str]
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @classmethod
    def create(cls, folder: Path, *, database_url: str, broker_url: str, **settings: object) -> Deployment:
        """Make the tiny encoder and a champion for every item."""
        encoder = write_encoder(folder / "encoder")
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("SCOREFOLD_")},
            "SCOREFOLD_HOME__PATH": str(folder / "home"),
            "SCOREFOLD_DATABASE__URL": database_url,
            "SCOREFOLD_BROKER__URL": broker_url,
            "SCOREFOLD_BACKBONE__NAME": encoder,
            "SCOREFOLD_ARTIFACTS__URL": str(folder / "artifacts"),
            "SCOREFOLD_WORKER__LEASE_S": "3",
            "SCOREFOLD_WORKER__SWEEP_INTERVAL_S": "0.5",
            "SCOREFOLD_WORKER__IDLE_STALE_S": "2",
            "SCOREFOLD_WORKER__BACKOFF_S": "0.2",
            "SCOREFOLD_TELEMETRY__LOG_FORMAT": "json",
            **{name: str(value) for name, value in settings.items()},
        }
        made = cls(folder, make_engine(database_url), environment)
        for position, (item_id, levels) in enumerate(ITEMS.items()):
            made.add_scorer(item_id, levels, seed=position, promote=True)
        return made

    def add_scorer(self, item_id: str, levels: tuple[int, ...], *, seed: int, promote: bool) -> int:
        """A random scorer for an item, registered and perhaps champion."""
        store = ArtifactStore(self.environment["SCOREFOLD_ARTIFACTS__URL"])
        backbone = Backbone.load(self.environment["SCOREFOLD_BACKBONE__NAME"])
        extractor = write_adapter(store, backbone, seed=seed)
        key = write_scorer(store, backbone, extractor, name=item_id, levels=levels)
        artifact = store.read_scorer(key)
        traits = tuple(TraitRecord(trait.name, trait.num_levels) for trait in artifact.item.traits)
        with self.database.begin() as connection:
            registry.save_items(connection, [ItemRecord(item_id, "Why?", "en", "", traits)])
            record = stored_record(
                item_id,
                key,
                extractor,
                store.read_extractor(extractor),
                num_bytes=store.num_bytes(extractor),
                metrics={},
            )
            scorer_id = registry.register_scorer(connection, record)
            if promote:
                registry.promote(connection, [scorer_id], actor="test", reason="test")
        return scorer_id

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run one `scorefold` command to its end."""
        done = subprocess.run(
            [sys.executable, "-m", "workers.cli", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"scorefold {' '.join(arguments)}: {done.returncode}\n{done.stderr}")
        return done

    def start_worker(self) -> subprocess.Popen[bytes]:
        """Start a worker process; it is killed at the end of the test."""
        with (self.folder / "worker.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "workers.cli", "worker"],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.processes.append(process)
        return process

    def close(self) -> None:
        """Stop what runs: softly first."""
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
        for process in self.processes:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.database.dispose()

    def write_answers(self, name: str, num_answers: int, *, first: int = 1) -> Path:
        """A JSON lines file of distinct answers, the items taking turns."""
        items = list(ITEMS)
        path = self.folder / name
        with path.open("w", encoding="utf-8") as stream:
            for number in range(first, first + num_answers):
                words = [WORDS[(number * step) % len(WORDS)] for step in (1, 3, 7, 11)]
                record = {
                    "response_id": f"r{number}",
                    "item_id": items[number % len(items)],
                    "text": f"{' '.join(words)} {number}",
                    "student_id": f"s{number % 50}",
                }
                stream.write(json.dumps(record) + "\n")
        return path

    def count(self, query: str) -> int:
        """A single number from the database."""
        with self.database.connect() as connection:
            return int(connection.execute(text(query)).scalar_one())

    def wait_until(self, query: str, *, timeout_s: float = 60.0, at_least: int = 1) -> None:
        """Poll until the query's number is large enough."""
        deadline = time.monotonic() + timeout_s
        while (found := self.count(query)) < at_least:
            if time.monotonic() > deadline:
                log = (self.folder / "worker.log").read_text()[-3000:]
                raise AssertionError(f"{query}: {found} after {timeout_s} s, wanted {at_least}\n{log}")
            time.sleep(0.1)

    def wait_until_log(self, word: str, *, times: int = 1, timeout_s: float = 180.0) -> None:
        """Poll until the workers have said something so many times."""
        deadline = time.monotonic() + timeout_s
        while (self.folder / "worker.log").read_text().count(word) < times:
            assert time.monotonic() < deadline, f"no worker said {word}, or not {times} times"
            time.sleep(0.1)

    def wait_until_settled(self, *, timeout_s: float = 60.0) -> None:
        """Poll until no submission waits."""
        self.wait_until(
            "SELECT (count(*) = 0)::int FROM ingest.work WHERE state IN ('ready', 'leased')",
            timeout_s=timeout_s,
        )

    def faults(self) -> list[str]:
        """What contradicts the promise: each submission done once per trait, or quarantined with a reason."""
        checks = {
            "done without all its scores": """
                SELECT count(*) FROM ingest.work w WHERE w.state = 'done' AND (
                    SELECT count(*) FROM score.machine_score m
                    WHERE m.submission_id = w.submission_id AND m.role = 'champion')
                    <> (SELECT count(*) FROM model.trait t WHERE t.item_id = w.item_id)""",
            "scored twice": """
                SELECT count(*) FROM (SELECT 1 FROM score.machine_score WHERE role = 'champion'
                                      GROUP BY submission_id, trait HAVING count(*) > 1) d""",
            "quarantined without a reason": """
                SELECT count(*) FROM ingest.work w WHERE w.state = 'quarantined' AND NOT EXISTS (
                    SELECT FROM ingest.quarantine q WHERE q.submission_id = w.submission_id)""",
            "scored by another item's scorer": """
                SELECT count(*) FROM score.machine_score m JOIN model.scorer c USING (scorer_id)
                JOIN ingest.submission s USING (submission_id) WHERE c.item_id <> s.item_id""",
            "submission without work": """
                SELECT count(*) FROM ingest.submission s
                WHERE NOT EXISTS (SELECT FROM ingest.work w WHERE w.submission_id = s.submission_id)""",
            "lease left behind": """
                SELECT count(*) FROM ingest.lease WHERE lease_until < now() - interval '1 min'""",
        }
        found = {name: self.count(query) for name, query in checks.items()}
        return [f"{number} {name}" for name, number in found.items() if number]
