"""Shadows score beside champions, unseen; promotions are followed while batches are in hand."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from db import aliases, registry
from scoring.artifacts import ArtifactStore
from scoring.backbone import Backbone
from scoring.config import EngineConfig
from scoring.engines.torch import TorchEngine
from scoring.errors import StoreUnavailableError
from scoring.types import Requests, ScorerKey
from tests.deployment import ITEMS, Deployment
from workers import roster
from workers.batcher import Batcher
from workers.roster import RosterKeeper

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def town(tmp_path: Path, database_url: str, broker_url: str) -> Iterator[Deployment]:
    made = Deployment.create(
        tmp_path, database_url=database_url, broker_url=broker_url, SCOREFOLD_WORKER__MAX_IDS_PER_MESSAGE=16
    )
    yield made
    made.close()


def shadow(town: Deployment, item_id: str, *, seed: int) -> int:
    scorer_id = town.add_scorer(item_id, ITEMS[item_id], seed=seed, promote=False)
    with town.database.begin() as connection:
        aliases.set_shadow(connection, scorer_id, actor="test", reason="try")
    return scorer_id


def promote(town: Deployment, *scorer_ids: int) -> None:
    with town.database.begin() as connection:
        aliases.promote(connection, scorer_ids, actor="test", reason="better")


def test_a_shadow_scores_every_answer_and_graders_see_the_champion_alone(town: Deployment) -> None:
    unseen = {shadow(town, "many", seed=70), shadow(town, "three", seed=71)}
    town.start_worker()
    town.run("submit", str(town.write_answers("night.jsonl", 200)), "--wait")
    assert town.faults() == []
    by_role = """
        SELECT count(*) FROM score.machine_score m JOIN ingest.submission s USING (submission_id)
        WHERE s.item_id IN ('many', 'three') AND m.role = '{}' AND m.scorer_id {} ({})"""
    ids = ", ".join(map(str, unseen))
    assert town.count(by_role.format("shadow", "IN", ids)) == 50 * 3 + 50
    assert town.count(by_role.format("champion", "NOT IN", ids)) == 50 * 3 + 50
    assert town.count("SELECT count(*) FROM grader.scores") == 50 * (1 + 1 + 1 + 3)
    assert town.count(f"SELECT count(*) FROM grader.scores WHERE scorer_id IN ({ids})") == 0
    # The two do differ, so that the view is known to have chosen.
    assert town.count("""
        SELECT count(*) FROM score.machine_score a JOIN score.machine_score b USING (submission_id, trait)
        WHERE a.role = 'champion' AND b.role = 'shadow' AND a.level <> b.level""")
    found = json.loads(town.run("evaluate", "--item", "many", "--json").stdout)
    assert [(one["alias"], one["judgement"]["verdict"]) for one in found] == [
        ("champion", "inconclusive"),
        ("shadow", "inconclusive"),
    ]


@pytest.mark.long
def test_promotions_while_batches_are_in_hand_tear_none(town: Deployment) -> None:
    """Champion and challenger of a three-trait item change places again and again under full load."""
    (first,) = [one.scorer_id for one in _serving(town) if (one.item_id, one.role) == ("many", "champion")]
    second = shadow(town, "many", seed=72)
    town.start_worker()
    town.run("submit", str(town.write_answers("night.jsonl", 16_000)))
    done = "SELECT count(*) FROM ingest.work WHERE state = 'done'"
    for step in range(1, 7):
        town.wait_until(done, at_least=step * 200, timeout_s=120)
        promote(town, (first, second)[step % 2])
    assert town.count(done) < 16_000, "all was over before the last promotion"
    town.wait_until_settled(timeout_s=240)
    assert town.faults() == []
    assert (
        town.count("""
        SELECT count(*) FROM (
            SELECT 1 FROM score.machine_score m JOIN ingest.submission s USING (submission_id)
            WHERE s.item_id = 'many' AND m.role = 'champion'
            GROUP BY m.submission_id HAVING count(DISTINCT m.scorer_id) > 1 OR count(*) <> 3) torn""")
        == 0
    )
    for scorer_id in (first, second):
        assert town.count(f"SELECT count(*) FROM score.machine_score WHERE scorer_id = {scorer_id}")
    assert "attempt_failed" not in (town.folder / "worker.log").read_text()


def _serving(town: Deployment) -> tuple[registry.Serving, ...]:
    with town.database.connect() as connection:
        return registry.snapshot(connection).serving


@pytest.fixture
def keeper(town: Deployment) -> Iterator[RosterKeeper]:
    store = ArtifactStore(town.environment["SCOREFOLD_ARTIFACTS__URL"])
    backbone = Backbone.load(town.environment["SCOREFOLD_BACKBONE__NAME"])
    batcher = Batcher(TorchEngine(backbone, store, EngineConfig()))
    batcher.start()
    yield RosterKeeper(town.database, batcher)
    batcher.stop()


def test_a_roster_in_hand_keeps_its_scorers_loaded(town: Deployment, keeper: RosterKeeper) -> None:
    keeper.refresh()
    held, batcher = keeper.current, keeper._batcher
    key = ScorerKey(held.serving["four"][0].scorer_key)
    for seed in (80, 81):
        town.add_scorer("four", ITEMS["four"], seed=seed, promote=True)
        assert keeper.refresh()
    assert len(batcher.score(Requests([key], ["the ice melts"]))) == 1
    del held
    town.add_scorer("four", ITEMS["four"], seed=82, promote=True)
    keeper.refresh()
    with pytest.raises(KeyError):
        batcher.score(Requests([key], ["the ice melts"]))


def test_a_shadow_without_a_champion_serves_nobody(town: Deployment, keeper: RosterKeeper) -> None:
    shadow(town, "four", seed=83)
    with town.database.begin() as connection:
        connection.execute(text("DELETE FROM model.alias WHERE alias = 'champion' AND item_id = 'four'"))
    keeper.refresh()
    assert "four" not in keeper.current.serving
    assert "three" in keeper.current.serving


def test_a_store_that_was_away_is_asked_again(
    town: Deployment, keeper: RosterKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A promotion while the store is away is followed once it is back, without another promotion."""
    monkeypatch.setattr(roster, "_RETRY_S", 0.2)
    keeper.refresh()
    before = keeper.current.serving["four"]
    new = town.add_scorer("four", ITEMS["four"], seed=90, promote=True)
    folder, away = town.folder / "artifacts", town.folder / "away"
    folder.rename(away)
    assert keeper.follow()
    assert keeper.current.serving["four"] == before
    assert not keeper.current.is_whole
    time.sleep(0.3)
    assert not keeper.follow()
    away.rename(folder)
    assert not keeper.follow()  # not before its time
    time.sleep(0.3)
    assert keeper.follow()
    assert [one.scorer_id for one in keeper.current.serving["four"]] == [new]
    assert keeper.current.is_whole
    assert not keeper.follow()


def test_a_worker_that_starts_without_a_store_serves_when_it_comes(
    town: Deployment, keeper: RosterKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roster, "_RETRY_S", 0.2)
    folder, away = town.folder / "artifacts", town.folder / "away"
    folder.rename(away)
    keeper.refresh()
    assert keeper.current.serving == {}
    assert sorted(keeper.current.refused) == sorted(ITEMS)
    away.rename(folder)
    time.sleep(0.3)
    assert keeper.follow()
    assert sorted(keeper.current.serving) == sorted(ITEMS)
    assert keeper.current.refused == {}


def test_one_unreadable_scorer_keeps_no_other_out(
    town: Deployment, keeper: RosterKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of one scorer that cannot be read looks like a store that is away."""
    monkeypatch.setattr(roster, "_RETRY_S", 0.2)
    (first,) = [one for one in _serving(town) if one.item_id == "four"]
    manifest = town.folder / "artifacts" / "scorers" / first.scorer_key / "scorefold.json"
    content = manifest.read_bytes()
    manifest.unlink()
    manifest.mkdir()
    keeper.refresh()
    assert sorted(keeper.current.serving) == sorted(set(ITEMS) - {"four"})
    assert "cannot read" in keeper.current.refused["four"]
    manifest.rmdir()
    manifest.write_bytes(content)
    time.sleep(0.3)
    assert keeper.follow()
    assert sorted(keeper.current.serving) == sorted(ITEMS)


def test_a_store_that_is_away_is_asked_once(town: Deployment, keeper: RosterKeeper) -> None:
    asked, loads = [], []
    load = keeper._batcher._engine.load
    keeper._batcher._engine.load = lambda key: (loads.append(key), load(key))

    def away() -> None:
        asked.append(True)
        raise StoreUnavailableError("nobody there")

    keeper._ask_store = away
    keeper.refresh()
    assert (len(asked), loads) == (1, [])
    assert keeper.current.refused == dict.fromkeys(ITEMS, "nobody there")
