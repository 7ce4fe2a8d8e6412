"""Worker processes are killed in the middle of a batch: the rest finishes, counts stay exact."""

from __future__ import annotations

import random
import signal
import time
from typing import TYPE_CHECKING

import pytest
import redis

from tests.deployment import Deployment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DONE = "SELECT count(*) FROM ingest.work WHERE state = 'done'"
LEASED = "SELECT count(*) FROM ingest.work WHERE state = 'leased'"


@pytest.fixture
def town(tmp_path: Path, database_url: str, broker_url: str) -> Iterator[Deployment]:
    made = Deployment.create(
        tmp_path,
        database_url=database_url,
        broker_url=broker_url,
        # Small messages, so that there is a middle to be killed in.
        SCOREFOLD_WORKER__MAX_IDS_PER_MESSAGE=16,
    )
    yield made
    made.close()


def test_kill_9_in_the_middle_of_a_batch_loses_and_doubles_nothing(town: Deployment) -> None:
    victim, survivor = town.start_worker(), town.start_worker()
    town.run("submit", str(town.write_answers("night.jsonl", 3000)))
    town.wait_until(DONE, at_least=50)
    town.wait_until(LEASED)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    num_done = town.count(DONE)
    assert num_done < 3000, "the batch was over before the kill: nothing was tried"
    town.wait_until_settled(timeout_s=90)
    assert survivor.poll() is None
    assert town.count(DONE) == 3000
    assert town.faults() == []


def test_a_message_lost_between_redis_and_worker_is_sent_again(town: Deployment) -> None:
    """The gap of kombu's BRPOP: frozen while waiting, the reply is taken from Redis and dies with it."""
    worker = town.start_worker()
    town.wait_until_log("worker_ready")
    time.sleep(1.5)
    worker.send_signal(signal.SIGSTOP)
    town.run("submit", str(town.write_answers("night.jsonl", 100)))
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    town.start_worker()
    town.wait_until_settled(timeout_s=60)
    assert town.count(DONE) == 100
    assert town.faults() == []


def test_flushall_is_repaired_from_the_ledger(town: Deployment, broker_url: str) -> None:
    worker = town.start_worker()
    town.wait_until_log("worker_ready")
    worker.send_signal(signal.SIGSTOP)
    town.run("submit", str(town.write_answers("night.jsonl", 500)))
    redis.Redis.from_url(broker_url).flushall()
    worker.send_signal(signal.SIGCONT)
    town.wait_until_settled(timeout_s=60)
    assert town.count(DONE) == 500
    assert town.faults() == []


@pytest.mark.long
def test_a_worker_frozen_past_its_lease_writes_nothing_when_it_wakes(town: Deployment) -> None:
    frozen = town.start_worker()
    town.run("submit", str(town.write_answers("night.jsonl", 2000)))
    town.wait_until(DONE, at_least=20)
    town.wait_until(LEASED)
    frozen.send_signal(signal.SIGSTOP)
    town.start_worker()
    town.wait_until_settled(timeout_s=90)
    num_scores = town.count("SELECT count(*) FROM score.machine_score")
    frozen.send_signal(signal.SIGCONT)
    time.sleep(3)
    assert frozen.poll() is None
    assert town.count("SELECT count(*) FROM score.machine_score") == num_scores
    assert town.count(DONE) == 2000
    assert town.faults() == []


@pytest.mark.long
def test_a_run_of_random_kills_ends_with_exact_counts(town: Deployment) -> None:
    dice = random.Random(20260101)
    workers = [town.start_worker(), town.start_worker()]
    town.run("submit", str(town.write_answers("night.jsonl", 3000)))
    town.wait_until(DONE, at_least=20)
    for _ in range(4):
        time.sleep(dice.uniform(0.2, 1.5))
        place = dice.randrange(2)
        workers[place].send_signal(signal.SIGKILL)
        workers[place].wait()
        workers[place] = town.start_worker()
    town.wait_until_settled(timeout_s=120)
    assert town.count(DONE) == 3000
    assert town.count("SELECT count(*) FROM ingest.quarantine") == 0
    assert town.faults() == []
