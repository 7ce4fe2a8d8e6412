"""Deploys lose nothing: a rolling restart under load, and workers that meet a newer schema."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from db import migrate
from tests.deployment import Deployment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DONE = "SELECT count(*) FROM ingest.work WHERE state = 'done'"

#: What a later release may do before its workers come: add, never change.
EXPAND = """
ALTER TABLE ingest.work ADD COLUMN priority smallint NOT NULL DEFAULT 0;
ALTER TABLE ingest.lease ADD COLUMN host text;
ALTER TABLE ingest.submission ADD COLUMN num_words int;
ALTER TABLE ingest.quarantine ADD COLUMN severity text NOT NULL DEFAULT 'unknown';
ALTER TABLE score.machine_score ADD COLUMN latency_ms real;
ALTER TABLE model.scorer ADD COLUMN retired_at timestamptz;
CREATE TABLE ops.later (n int PRIMARY KEY);
UPDATE alembic_version SET version_num = '9999'
"""


@pytest.fixture
def town(tmp_path: Path, database_url: str, broker_url: str) -> Iterator[Deployment]:
    made = Deployment.create(
        tmp_path, database_url=database_url, broker_url=broker_url, SCOREFOLD_WORKER__MAX_IDS_PER_MESSAGE=16
    )
    yield made
    made.close()


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_rolling_restart_under_load_over_a_migration_loses_nothing(town: Deployment) -> None:
    """Old workers score on while the schema grows; each is then stopped softly and replaced."""
    old = [town.start_worker(), town.start_worker()]
    town.wait_until_log("worker_ready", timeout_s=240)
    town.run("submit", str(town.write_answers("night.jsonl", 6000)))
    town.wait_until(DONE, at_least=20)
    for statement in EXPAND.split(";\n"):
        # One by one, as a migration must: a lock on every hot table at once would stop everybody.
        with town.database.begin() as connection:
            connection.execute(text(statement))
    assert town.count(DONE) < 6000, "all was done before the migration: nothing was tried"
    for worker in old:
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(120) == 0
        town.start_worker()
    town.run("submit", str(town.write_answers("next.jsonl", 100, first=6001)))
    town.wait_until_settled(timeout_s=300)
    assert town.count(DONE) == 6100
    assert town.count("SELECT count(*) FROM ingest.quarantine") == 0
    # Given back, not lost to a lease's end: a soft stop costs nobody an attempt.
    assert town.count("SELECT max(num_attempts) FROM ingest.work") == 1
    assert town.faults() == []
    assert town.run("health").returncode == 0


def test_the_tables_are_the_models(database_url: str) -> None:
    migrate.check(database_url)
