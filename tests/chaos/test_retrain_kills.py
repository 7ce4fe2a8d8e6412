"""Retraining is killed at six moments: nothing half-registered, no second run, and a rerun completes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.chaos.retrain_process import IN_TRAINING, MOMENTS, PERIOD
from tests.chaos.standstill import killed_at
from tests.schoolhouse import School

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.long

NUM_SCORERS = "SELECT count(*) FROM model.scorer"
LAST = "committed, period not ended"


@pytest.fixture
def school(tmp_path: Path, database_url: str) -> Iterator[School]:
    made = School.create(tmp_path, database_url, lease_s=2.0)
    yield made
    made.town.close()


@pytest.mark.parametrize("moment", [*MOMENTS, IN_TRAINING])
def test_a_killed_retraining_leaves_all_or_nothing(moment: str, school: School, database_url: str) -> None:
    champion = school.serve("ice")
    school.read(school.hand_in("ice", 150))
    killed_at(moment, "tests.chaos.retrain_process", school.town.folder, database_url, timeout_s=240)

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
