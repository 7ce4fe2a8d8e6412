"""A merge under load: real workers score while it is approved, promoted for all items, and rolled back."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING

import pytest

from tests.chaos.verdict import _WRONG_SCORER
from tests.deployment import Deployment
from tests.mergetown import QUICK, MergeTown, merging_policy
from workers.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DONE = "SELECT count(*) FROM ingest.work WHERE state = 'done'"
#: Answers in one file; files follow each other until the last promotion is through.
NUM_ANSWERS = 800


@pytest.fixture
def town(tmp_path: Path, database_url: str, broker_url: str) -> Iterator[Deployment]:
    made = Deployment.create(
        tmp_path, database_url=database_url, broker_url=broker_url, SCOREFOLD_INTAKE__READ_STREAM="false"
    )
    yield made
    made.close()


def settings_of(town: Deployment, database_url: str) -> Settings:
    return Settings(
        home={"path": town.folder / "home"},
        database={"url": database_url},
        backbone={"name": town.environment["SCOREFOLD_BACKBONE__NAME"]},
        artifacts={"url": town.environment["SCOREFOLD_ARTIFACTS__URL"]},
    )


class Stream:
    """Files of answers, one after the other, until told to stop."""

    def __init__(self, town: Deployment) -> None:
        self._town = town
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)
        self.num_sent = 0
        self.errors: list[BaseException] = []
        self._thread.start()

    def end(self) -> None:
        self._stop.set()
        self._thread.join(300)
        assert self.errors == []

    def _send(self) -> None:
        try:
            while not self._stop.is_set():
                name = f"night-{self.num_sent}.jsonl"
                path = self._town.write_answers(name, NUM_ANSWERS, first=self.num_sent + 1)
                self._town.run("submit", str(path))
                self.num_sent += NUM_ANSWERS
        except BaseException as error:  # noqa: BLE001 (told by end)
            self.errors.append(error)


def num_by(town: Deployment, role: str, kind: str) -> int:
    return town.count(f"""
        SELECT count(*) FROM score.machine_score m JOIN model.scorer s USING (scorer_id)
        JOIN model.extractor x USING (extractor_id) WHERE m.role = '{role}' AND x.kind = '{kind}'""")


@pytest.mark.long
@pytest.mark.timeout(1500)
def test_a_merge_is_promoted_and_rolled_back_under_load(town: Deployment, database_url: str) -> None:
    for _ in range(2):
        town.start_worker()
    town.run("submit", str(town.write_answers("first.jsonl", 400, first=1_000_000)))
    town.wait_until_settled(timeout_s=300)
    night = MergeTown(town, settings_of(town, database_url)).night("n1", by=merging_policy(), fusion=QUICK)
    assert night is not None
    (proposed,) = [one for one in night.proposals if one.state == "shadow"][:1]
    number = str(proposed.merge_proposal_id)
    before = aliases(town, proposed.items)

    stream = Stream(town)
    shadowed = (
        f"SELECT coalesce(sum(num_answers), 0) FROM grader.merge_changes WHERE merge_proposal_id = {number}"
    )
    town.wait_until(shadowed, at_least=200, timeout_s=300)
    town.run("merges", "approve", number, "--reason", "agrees", "--early", "--actor", "ada")
    town.wait_until(
        "SELECT count(*) FROM score.machine_score m JOIN model.scorer USING (scorer_id) "
        "JOIN model.extractor x USING (extractor_id) "
        "WHERE m.role = 'champion' AND x.kind = 'merged'",
        at_least=200,
        timeout_s=300,
    )
    undone = json.loads(town.run("merges", "rollback", number, "--reason", "tried", "--json").stdout)
    assert undone["state"] == "rolled_back"
    num_done = town.count(DONE)
    town.wait_until(DONE, at_least=num_done + 200, timeout_s=300)
    stream.end()
    town.wait_until_settled(timeout_s=300)

    assert aliases(town, proposed.items) == before
    assert town.count("SELECT count(*) FROM ingest.submission") == stream.num_sent + 400
    assert town.faults() == []
    assert num_by(town, "champion", "merged") >= 200
    assert num_by(town, "champion", "item") >= 400
    with town.database.connect() as connection:
        from sqlalchemy import text

        wrong = connection.execute(text(_WRONG_CHAMPION), {"grace_s": 12.0}).scalar_one()
    assert wrong == 0
    # Every score names its scorer, and the scorer its extractor.
    origins = town.count("SELECT count(*) FROM grader.score_origins WHERE extractor_kind = 'merged'")
    assert origins == num_by(town, "champion", "merged") + num_by(town, "shadow", "merged")


#: The adversary's rule, for champions: shadows never reign.
_WRONG_CHAMPION = _WRONG_SCORER.replace("WHERE NOT EXISTS (", "WHERE m.role = 'champion' AND NOT EXISTS (")


def aliases(town: Deployment, items: tuple[str, ...]) -> list[tuple[str, str, int]]:
    from sqlalchemy import text

    with town.database.connect() as connection:
        rows = connection.execute(
            text(
                "SELECT item_id, alias, scorer_id FROM model.alias WHERE item_id = ANY(:items) ORDER BY 1, 2"
            ),
            {"items": list(items)},
        )
        return [(row.item_id, row.alias, row.scorer_id) for row in rows]
