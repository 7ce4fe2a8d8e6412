"""Retraining is killed at six moments: nothing half-registered, no second run, and a rerun completes."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.chaos.retrain_process import IN_TRAINING, MOMENTS, PERIOD
from tests.schoolhouse import School

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[2]
NUM_SCORERS = "SELECT count(*) FROM model.scorer"
LAST = "committed, period not ended"


@pytest.fixture
def school(tmp_path: Path, database_url: str) -> Iterator[School]:
    made = School.create(tmp_path, database_url, lease_s=2.0)
    yield made
    made.town.close()


def killed_at(moment: str, school: School, database_url: str) -> None:
    folder = school.town.folder
    command = [sys.executable, "-m", "tests.chaos.retrain_process", str(folder), database_url, moment]
    with (folder / "retrain.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 240
        while not (folder / "reached").exists():
            told = (folder / "retrain.log").read_text()
            assert process.poll() is None, told
            assert time.monotonic() < deadline, told
            time.sleep(0.05)
        assert process.poll() is None
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("moment", [*MOMENTS, IN_TRAINING])
def test_a_killed_retraining_leaves_all_or_nothing(moment: str, school: School, database_url: str) -> None:
    champion = school.serve("ice")
    school.read(school.hand_in("ice", 150))
    killed_at(moment, school, database_url)

    assert school.faults() == []
    assert school.town.count("SELECT count(*) FROM model.training_run") == 1
    assert school.town.count("SELECT count(*) FROM ops.run WHERE state = 'running'") == 1
    if moment == LAST:
        assert school.town.count(NUM_SCORERS) == 2
    else:
        assert school.town.count(NUM_SCORERS) == 1
        assert school.aliases("ice") == {"champion": champion}
        # Its lease is the dead process's own: nobody takes the item before it ends.
        school.town.wait_until("SELECT (lease_until < now())::int FROM model.training_run", timeout_s=10)

    done = school.retrain(PERIOD)
    assert [one.error for one in done] == ([] if moment == LAST else [None])
    assert school.town.count("SELECT count(*) FROM model.training_run") == 1
    assert school.town.count("SELECT count(*) FROM model.training_run WHERE state = 'done'") == 1
    assert school.town.count("SELECT num_attempts FROM model.training_run") == (1 if moment == LAST else 2)
    assert school.town.count("SELECT count(*) FROM ops.run WHERE state = 'done'") == 1
    assert school.town.count(NUM_SCORERS) == 2
    assert school.aliases("ice")["champion"] != champion or "shadow" in school.aliases("ice")
    assert school.faults() == []
    assert school.retrain(PERIOD) == []
