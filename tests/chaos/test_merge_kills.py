"""A night of merging is killed at nine moments: nothing half-registered, and a rerun completes the run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.chaos.merge_process import MOMENTS, PERIOD
from tests.chaos.standstill import killed_at
from tests.mergetown import QUICK, MergeTown

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.long

#: Everything of the night that is one transaction stands in it whole or not at all.
FAULTS = {
    "merged scorer without a proposal": """
        SELECT count(*) FROM model.scorer s JOIN model.extractor x USING (extractor_id)
        WHERE x.kind = 'merged' AND NOT EXISTS (
            SELECT FROM model.merge_member m WHERE m.scorer_after = s.scorer_id)""",
    "proposal without all its members": """
        SELECT count(*) FROM model.merge_proposal p WHERE cardinality(p.items) <> (
            SELECT count(*) FROM model.merge_member m WHERE m.merge_proposal_id = p.merge_proposal_id)""",
    "proposal without an event": """
        SELECT count(*) FROM model.merge_proposal p WHERE p.state <> (
            SELECT e.state FROM model.merge_event e WHERE e.merge_proposal_id = p.merge_proposal_id
            ORDER BY e.merge_event_id DESC LIMIT 1)""",
    "shadow that is no proposal's": """
        SELECT count(*) FROM model.alias a WHERE a.alias = 'shadow' AND NOT EXISTS (
            SELECT FROM model.merge_member m JOIN model.merge_proposal p USING (merge_proposal_id)
            WHERE m.scorer_after = a.scorer_id AND p.state = 'shadow')""",
    "cloud without its answers": """
        SELECT count(*) FROM model.gw_cloud c WHERE c.num_answers <> (
            SELECT count(*) FROM model.gw_cloud_submission s WHERE s.digest = c.digest)""",
    "the same group twice": """
        SELECT count(*) FROM (SELECT 1 FROM model.merge_proposal GROUP BY items HAVING count(*) > 1) d""",
}


@pytest.fixture
def town(tmp_path: Path, database_url: str) -> Iterator[MergeTown]:
    made = MergeTown.create(tmp_path, database_url, lease_s=2.0)
    yield made
    made.town.close()


def faults(town: MergeTown) -> list[str]:
    return [name for name, query in FAULTS.items() if town.town.count(query)]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("moment", list(MOMENTS))
def test_a_killed_night_goes_on_where_it_stood(moment: str, town: MergeTown, database_url: str) -> None:
    champions = town.settle("air", "ice")
    killed_at(moment, "tests.chaos.merge_process", town.town.folder, database_url, timeout_s=280)
    assert faults(town) == []
    assert {name: town.aliases(name)["champion"] for name in champions} == champions
    assert town.town.count("SELECT count(*) FROM model.gw_run WHERE state = 'running'") == 1
    # Its lease is the dead process's own: nobody takes the run before it ends.
    town.town.wait_until("SELECT (lease_until < now())::int FROM model.gw_run", timeout_s=10)

    night = town.night(PERIOD, fusion=QUICK)
    assert night is not None
    assert night.state == "done"
    assert town.rows("SELECT state, num_attempts FROM model.gw_run") == [{"state": "done", "num_attempts": 2}]
    assert town.rows("SELECT state FROM ops.run WHERE kind = 'merge'") == [{"state": "done"}]
    # A number that a killed transaction took is not given again.
    assert town.rows("SELECT items, state FROM model.merge_proposal") == [
        {"items": ["air", "ice"], "state": "shadow"}
    ]
    assert faults(town) == []
    assert town.night(PERIOD, fusion=QUICK) is None
