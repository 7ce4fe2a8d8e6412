"""Workers that heal or die: pulses, a watchdog that ends a stuck process, memory that runs out."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest

from db import ledger, runs
from db.ledger import LeasePolicy
from db.registry import Serving
from db.session import make_engine
from scoring.errors import DeviceOutOfMemoryError, NotANumberError
from scoring.types import ItemId, ItemSpec, Scores, Trait
from tests import rows
from tests.deployment import Deployment
from workers import health
from workers.batcher import Batcher
from workers.health import Pulse, check_workers, pulse_folder, write_pulse
from workers.pipeline import Pipeline
from workers.roster import Roster
from workers.settings import HomeSettings, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from scoring.types import Requests


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=HomeSettings(path=tmp_path))


def pulse(**changes: float) -> Pulse:
    now = time.time()
    return Pulse(
        **{"pid": os.getpid(), "started_at": now, "at": now, "stalled_s": 0.0, "deaf_s": 0.0} | changes
    )


def test_no_worker_is_a_fault(settings: Settings) -> None:
    (fault,) = check_workers(settings)
    assert "no worker" in fault


def test_a_worker_that_beats_is_healthy(settings: Settings) -> None:
    write_pulse(pulse_folder(settings), pulse())
    assert check_workers(settings) == []


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"at": time.time() - 60}, "not been heard of"),
        ({"stalled_s": 500.0}, "one batch"),
        ({"deaf_s": 500.0}, "broker"),
    ],
)
def test_a_worker_without_progress_is_a_fault(
    settings: Settings, changes: dict[str, float], word: str
) -> None:
    write_pulse(pulse_folder(settings), pulse(**changes))
    (fault,) = check_workers(settings)
    assert word in fault


def test_the_pulse_of_a_killed_worker_is_swept_away(settings: Settings) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    write_pulse(pulse_folder(settings), pulse(pid=gone.pid))
    assert "no worker" in check_workers(settings)[0]
    assert list(pulse_folder(settings).iterdir()) == []


def test_a_half_written_pulse_is_no_pulse(settings: Settings) -> None:
    write_pulse(pulse_folder(settings), pulse())
    (path,) = pulse_folder(settings).iterdir()
    path.write_text('{"pid": ')
    assert "no worker" in check_workers(settings)[0]
    assert health.pulse_folder(settings) == settings.home.path / "run"


class SmallDevice:
    """An engine whose memory holds so many answers; another would need a GPU to run out."""

    name = "small"

    def __init__(self, max_answers: int) -> None:
        self.max_answers = max_answers
        self.sizes: list[int] = []

    def label(self, _scorer: str) -> str:
        return self.name

    def prepare(self, requests: Requests) -> Requests:
        return requests

    def score(self, requests: Requests) -> Scores:
        self.sizes.append(len(requests))
        if len(requests) > self.max_answers:
            raise DeviceOutOfMemoryError
        num = len(requests)
        levels = [int(answer.rpartition(" ")[2]) % 3 for answer in requests.texts]
        return Scores(
            answer=np.arange(num, dtype=np.int32),
            trait=["t0"] * num,
            level=np.array(levels, dtype=np.int16),
            probabilities=[[0.2, 0.5, 0.3]] * num,
            confidence=np.full(num, 0.5, dtype=np.float32),
            needs_review=np.zeros(num, dtype=np.bool_),
        )


class OverflowingDevice(SmallDevice):
    """An engine whose encoder overflows at one answer."""

    def score(self, requests: Requests) -> Scores:
        if "answer 3" in requests.texts:
            raise NotANumberError
        return super().score(requests)


class FixedKeeper:
    """A roster that stands still."""

    def __init__(self, scorer_id: int) -> None:
        item = ItemSpec(ItemId("item-a"), "Why?", "en", (Trait("t0", 3),))
        serving = Serving("item-a", "champion", scorer_id, "k" * 64, "e" * 64)
        self.current = Roster(1, {"item-a": item}, {"item-a": (serving,)})

    def follow(self) -> bool:
        return False


@pytest.fixture
def batchers() -> Iterator[list[Batcher]]:
    started: list[Batcher] = []
    yield started
    for batcher in started:
        batcher.stop()


@pytest.mark.parametrize(("fits", "num_done"), [(3, 10), (1, 10), (0, 0)])
def test_a_batch_that_does_not_fit_is_halved_until_it_does(
    database_url: str, batchers: list[Batcher], fits: int, num_done: int
) -> None:
    database = make_engine(database_url)
    with database.begin() as connection:
        scorer_id = rows.serve(connection, "item-a")["item-a"]
        ids = rows.accept(connection, 10)
    device = SmallDevice(fits)
    batchers.append(Batcher(device))
    batchers[0].start()
    pipeline = Pipeline(database, batchers[0], FixedKeeper(scorer_id), worker="w", policy=LeasePolicy())
    assert pipeline.process(ids) == num_done
    assert device.sizes[0] == 10
    with database.connect() as connection:
        found = connection.exec_driver_sql(
            "SELECT s.text, m.level FROM score.machine_score m JOIN ingest.submission s USING (submission_id)"
        ).all()
        states = connection.exec_driver_sql("SELECT DISTINCT state FROM ingest.work").scalars().all()
    assert len(found) == num_done
    assert all(row.level == int(row.text.rpartition(" ")[2]) % 3 for row in found)
    # What does not even fit alone waits for a device with room: nobody's fault, so no attempt is counted.
    assert states == (["done"] if num_done else ["ready"])
    database.dispose()


def test_an_answer_without_finite_logits_is_quarantined_and_the_others_are_scored(
    database_url: str, batchers: list[Batcher]
) -> None:
    database = make_engine(database_url)
    with database.begin() as connection:
        keeper = FixedKeeper(rows.serve(connection, "item-a")["item-a"])
        ids = rows.accept(connection, 10)
    batchers.append(Batcher(OverflowingDevice(10)))
    batchers[0].start()
    policy = LeasePolicy(backoff_s=0.0)
    assert Pipeline(database, batchers[0], keeper, worker="w", policy=policy).process(ids) == 0
    # They are suspects by now, and go one by one.
    assert Pipeline(database, batchers[0], keeper, worker="w", policy=policy).process(ids) == 9
    with database.connect() as connection:
        (case,) = connection.exec_driver_sql(
            "SELECT q.reason, s.text FROM ingest.quarantine q JOIN ingest.submission s USING (submission_id)"
        ).all()
    assert case == ("NotANumberError", "answer 3")
    database.dispose()


def test_a_suspect_that_nobody_could_try_is_as_far_from_quarantine_as_before(
    database_url: str, batchers: list[Batcher]
) -> None:
    database, policy = make_engine(database_url), LeasePolicy(backoff_s=0.0)
    with database.begin() as connection:
        keeper = FixedKeeper(rows.serve(connection, "item-a")["item-a"])
        ids = rows.accept(connection, 2)
    for attempt in (1, 2):
        with database.begin() as connection:
            failed = ledger.claim(connection, ids, worker="w", policy=policy, attempt=attempt)
            ledger.fail(connection, failed, reason="error", detail="x", policy=policy)
    keeper.current = Roster()  # the scorer is refused by now
    batchers.append(Batcher(SmallDevice(1)))
    batchers[0].start()
    pipeline = Pipeline(database, batchers[0], keeper, worker="w", policy=policy)
    assert pipeline.process(ids[:1]) == 0
    pipeline._claim(ids[1:], attempt=3)
    assert pipeline.give_back_held() == 1
    with database.connect() as connection:
        found = connection.exec_driver_sql(
            "SELECT DISTINCT state, num_attempts, num_solo_attempts FROM ingest.work"
        ).all()
    assert found == [("ready", 2, 0)]
    database.dispose()


def test_a_night_is_run_once_however_many_beats_tick(database_url: str) -> None:
    database = make_engine(database_url, pool_size=8)

    def tick(_: int) -> bool:
        with database.begin() as connection:
            return runs.begin(connection, kind="nightly", period="2026-03-01")

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(tick, range(32))) == 1
    database.dispose()


HANGING = """
import sys, time, workers.engines
build = workers.engines.build_engine
class Hanging:
    def __init__(self, engine): self.engine = engine
    def __getattr__(self, name): return getattr(self.engine, name)
    def score(self, requests): time.sleep(3600)
workers.engines.build_engine = lambda settings: Hanging(build(settings))
sys.argv = ["scorefold", "worker"]
from workers.cli.main import main
main()
"""


@pytest.mark.timeout(600)
def test_a_worker_whose_engine_hangs_ends_and_another_does_its_work(
    tmp_path: Path, database_url: str, broker_url: str
) -> None:
    town = Deployment.create(
        tmp_path, database_url=database_url, broker_url=broker_url, SCOREFOLD_WORKER__STALL_S=2
    )
    with (tmp_path / "hanging.log").open("wb") as log:
        stuck = subprocess.Popen(
            [sys.executable, "-c", HANGING], env=town.environment, stdout=log, stderr=log
        )
    town.processes.append(stuck)
    try:
        town.run("submit", str(town.write_answers("night.jsonl", 20)))
        assert stuck.wait(240) == 75
        assert "engine_stalled" in (tmp_path / "hanging.log").read_text()
        worker = town.start_worker()
        town.wait_until_settled(timeout_s=240)
        assert town.count("SELECT count(*) FROM ingest.work WHERE state = 'done'") == 20
        assert town.faults() == []
        assert json.loads(town.run("health", "--worker", "--json").stdout) == {"healthy": True, "faults": []}
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0
        assert town.run("health", "--worker", check=False).returncode == 1
    finally:
        town.close()
