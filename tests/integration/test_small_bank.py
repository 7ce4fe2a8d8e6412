"""Workers whose bank is too small: figures are told, a damaged extractor keeps only its item waiting."""

from __future__ import annotations

import json
import socket
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from db import aliases
from scoring.artifacts import ArtifactStore
from tests.deployment import ITEMS, Deployment
from tests.unit.tiny_encoders import store_folder

if TYPE_CHECKING:
    from collections.abc import Iterator


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def town(tmp_path: Path, database_url: str, broker_url: str) -> Iterator[Deployment]:
    made = Deployment.create(
        tmp_path,
        database_url=database_url,
        broker_url=broker_url,
        # One extractor at a time.
        SCOREFOLD_ENGINE__MAX_BANK_MB="0.000001",
        SCOREFOLD_ENGINE__MAX_RECENT_ANSWERS="0",
        SCOREFOLD_TELEMETRY__METRICS_ADDRESS=f"127.0.0.1:{free_port()}",
    )
    yield made
    made.close()


def addresses(town: Deployment) -> list[str]:
    lines = (town.folder / "worker.log").read_text().splitlines()
    told = [json.loads(line) for line in lines if '"metrics_served"' in line]
    return [one["url"] for one in told]


def figures(url: str) -> dict[str, float]:
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 (the address that our worker told)
        lines = answer.read().decode().splitlines()
    pairs = [line.rsplit(" ", 1) for line in lines if line.startswith("scorefold_")]
    return {name.removeprefix("scorefold_"): float(value) for name, value in pairs}


def extractor_file(town: Deployment, item_id: str) -> Path:
    store = ArtifactStore(town.environment["SCOREFOLD_ARTIFACTS__URL"])
    with town.database.connect() as connection:
        key = connection.execute(
            text("""
                SELECT x.extractor_key FROM model.alias a JOIN model.scorer s USING (scorer_id)
                JOIN model.extractor x USING (extractor_id)
                WHERE a.item_id = :item AND a.alias = 'champion'
            """),
            {"item": item_id},
        ).scalar_one()
    (found,) = (Path(store_folder(store)) / "extractors" / key).glob("*.safetensors")
    return found


def test_one_damaged_extractor_keeps_only_its_item_waiting(town: Deployment) -> None:
    shadow = town.add_scorer("four", ITEMS["four"], seed=91, promote=False)
    with town.database.begin() as connection:
        aliases.set_shadow(connection, shadow, actor="test", reason="try")
    worker = town.start_worker()
    town.wait_until_log("metrics_served")
    town.wait_until_log("worker_ready")
    # After the worker has loaded it, and let it go again for others.
    path = extractor_file(town, "four")
    content = path.read_bytes()
    path.write_bytes(content[:-8] + bytes(8))
    town.run("submit", str(town.write_answers("night.jsonl", 80)))
    done = "SELECT count(*) FROM ingest.work WHERE state = 'done' AND item_id {} 'four'"
    town.wait_until(done.format("<>"), at_least=60)
    town.wait_until_log("scorer_unreadable")
    assert town.count(done.format("=")) == 0
    assert town.count("SELECT count(*) FROM ingest.work WHERE item_id = 'four' AND num_attempts > 1") == 0
    assert town.count(f"SELECT count(*) FROM score.machine_score WHERE scorer_id = {shadow}") == 0

    told = figures(*addresses(town))
    assert told["submissions_finished_total"] == 60
    assert told["submissions_given_back_total"] >= 20
    assert told["submissions_failed_total"] == told["leases_lost_total"] == 0
    assert told["answers_computed_total"] >= 60
    assert told["engine_busy_seconds_total"] > 0
    assert (told["items_served"], told["items_refused"]) == (4, 0)
    assert told["bank_extractors"] == 1
    assert told["bank_overflows_total"] >= 1
    assert told["bank_brought_total"] == told["bank_evicted_total"] + 1

    path.write_bytes(content)
    town.wait_until_settled(timeout_s=90)
    assert worker.poll() is None
    assert town.faults() == []
    assert town.count(done.format("=")) == 20
    assert town.count(f"SELECT count(*) FROM score.machine_score WHERE scorer_id = {shadow}") == 20
    assert figures(*addresses(town))["submissions_finished_total"] == 80


def test_workers_of_one_machine_take_ports_in_turn(town: Deployment) -> None:
    for _ in range(2):
        town.start_worker()
    town.wait_until_log("metrics_served", times=2)
    first, second = addresses(town)
    assert first != second
    assert {figures(url)["items_served"] for url in (first, second)} == {4}
