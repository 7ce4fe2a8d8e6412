"""`scorefold merges whole`: from scored answers to evidence and files, and nothing in the ledger."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import text

from tests.schoolhouse import answer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.deployment import Deployment


def scored(town: Deployment) -> Path:
    """Answers of two items that can be learned, and too few of a third."""
    path, rng = town.folder / "scored.jsonl", np.random.default_rng(1)
    with path.open("w", encoding="utf-8") as stream:
        for item_id, num_levels, num_answers in (("two", 2, 80), ("three", 3, 80), ("four", 4, 8)):
            for number in range(num_answers):
                level = int(rng.integers(num_levels))
                record = {
                    "response_id": f"{item_id}-{number}",
                    "item_id": item_id,
                    "text": f"{answer(level, rng)} {number}",
                    "score": level,
                    "fold": ("train", "train", "validation", "test")[number % 4],
                }
                stream.write(json.dumps(record) + "\n")
    return path


def test_whole_encoders_are_merged_beside_the_service(town: Deployment) -> None:
    path, out = scored(town), town.folder / "merged"
    plan = json.loads(town.run("merges", "whole", str(path), "--dry-run", "--json").stdout)
    assert {one["item_id"]: one["is_kept"] for one in plan["items"]} == dict.fromkeys(
        ("four", "three", "two"), False
    )
    before = rows(town)
    command = ("merges", "whole", str(path), "--together", "--epochs", "2", "--json")
    first = town.run(*command, "--out", str(out), check=False)
    assert first.returncode == 3, first.stderr
    done = json.loads(first.stdout)
    assert "at least 20" in done["failed"]["four"]
    (group,) = done["groups"]
    assert group["items"] == ["three", "two"]
    assert group["distance"] > 0
    assert group["figures"]["two"]["qwk"]["change"]["num_answers"] == 20
    assert (out / "group-1" / "encoder" / "model.safetensors").exists()
    kept = {one: one.stat().st_mtime_ns for one in (town.folder / "home" / "whole").iterdir()}
    assert len(kept) == 2
    again = town.run(*command, "--way", "ties", "--heads", "kept", check=False)
    assert json.loads(again.stdout)["groups"][0]["items"] == ["three", "two"]
    assert {one: one.stat().st_mtime_ns for one in kept} == kept
    assert rows(town) == before


def test_what_cannot_be_merged_is_said(town: Deployment) -> None:
    path = scored(town)
    alone = town.run("merges", "whole", str(path), "--item", "two", "--epochs", "1", check=False)
    assert alone.returncode == 1
    assert "a merge needs two" in alone.stderr
    table = town.run("merges", "whole", str(path), "--epochs", "1", check=False)
    assert "three + two" in table.stdout
    assert "four: item 'four'" in table.stderr


def rows(town: Deployment) -> dict[str, int]:
    tables = ("model.scorer", "model.extractor", "model.training_run", "score.audit")
    with town.database.connect() as connection:
        return {
            name: connection.execute(text(f"SELECT count(*) FROM {name}")).scalar_one() for name in tables
        }
