"""`scorefold train` is killed between two items: the rerun keeps the first and trains the rest."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.deployment import ITEMS, Deployment
from tests.unit.tiny_encoders import WORDS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

#: One passes quickly; the others take long enough to be killed in.
QUICK = "many"
NUM_ANSWERS = {QUICK: 24, "three": 600, "two": 600}
DONE = "SELECT count(*) FROM model.training_run WHERE state = 'done'"


@pytest.fixture
def town(tmp_path: Path, database_url: str, broker_url: str) -> Iterator[Deployment]:
    made = Deployment.create(tmp_path, database_url=database_url, broker_url=broker_url)
    yield made
    made.close()


def scored(town: Deployment) -> Path:
    path = town.folder / "scored.jsonl"
    with path.open("w", encoding="utf-8") as stream:
        for item_id, num_answers in NUM_ANSWERS.items():
            for number in range(num_answers):
                words = [WORDS[(number * step) % len(WORDS)] for step in (1, 3, 7, 11)]
                scores = {f"trait{k}": (number + k) % levels for k, levels in enumerate(ITEMS[item_id])}
                record = {
                    "response_id": f"{item_id}-{number}",
                    "item_id": item_id,
                    "text": f"{' '.join(words)} {number}",
                    "scores": scores,
                    "fold": ("train", "train", "validation", "test")[number % 4],
                }
                stream.write(json.dumps(record) + "\n")
    return path


def train(path: Path, *more: str) -> list[str]:
    return ["train", str(path), "--no-promote", "--processes", "1", "--epochs", "3", "--json", *more]


def killed_after_one(town: Deployment, path: Path) -> int:
    """Kill the command alone once an item is done; its process group."""
    with (town.folder / "worker.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "workers.cli", *train(path)],
            env=town.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        town.wait_until(DONE, timeout_s=240)
        assert process.poll() is None
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    return process.pid


def ends(group: int, *, within_s: float) -> bool:
    """Whether no process of a group is left in time; the rest is killed."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.2)
    os.killpg(group, signal.SIGKILL)
    return False


def test_a_killed_training_goes_on_where_it_stood(town: Deployment) -> None:
    path = scored(town)
    group = killed_after_one(town, path)
    assert ends(group, within_s=30), "a training process outlived its parent"
    assert town.count(DONE) == 1
    assert town.count("SELECT count(*) FROM model.training_run WHERE state = 'running'") == 2

    told: dict[str, Any] = {one["item_id"]: one for one in json.loads(town.run(*train(path)).stdout)}
    assert {item_id for item_id, one in told.items() if one["was_there"]} == {QUICK}
    assert all(one["error"] is None and one["scorer_id"] for one in told.values())
    assert town.count(DONE) == 3
    assert town.count("SELECT count(*) FROM model.training_run WHERE state = 'failed'") == 2
    assert town.count("SELECT count(*) FROM model.training_run") == 5

    again = json.loads(town.run(*train(path)).stdout)
    assert all(one["was_there"] for one in again)
    assert {one["scorer_id"] for one in again} == {one["scorer_id"] for one in told.values()}


def test_a_lost_artifact_another_recipe_or_other_answers_are_trained(town: Deployment) -> None:
    path = scored(town)

    def trained(*more: str) -> dict[str, Any]:
        (one,) = json.loads(town.run(*train(path, "--item", QUICK, *more)).stdout)
        return one

    first = trained()
    assert not first["was_there"]
    assert trained()["was_there"]
    assert not trained("--again")["was_there"]
    other = trained("--seed", "7")
    assert not other["was_there"]
    assert other["scorer_id"] != first["scorer_id"]
    path.write_text(path.read_text().replace("the the the the 0", "the the the ice 0"))
    assert not trained()["was_there"]
    store = town.folder / "artifacts" / "scorers"
    for head in store.rglob("head.safetensors"):
        head.unlink()
    assert not trained()["was_there"]
    assert town.count("SELECT count(*) FROM model.training_run WHERE state = 'running'") == 0
