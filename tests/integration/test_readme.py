"""What the README and the demo tell people to type works: SELECTs, and the lines of "your own data"."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from db.session import make_engine
from tests.deployment import Deployment
from workers.demo.run import try_lines
from workers.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")


def block(language: str, containing: str) -> str:
    blocks = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    (found,) = [one for one in blocks if containing in one]
    return found


@pytest.fixture
def town(tmp_path: Path, database_url: str, broker_url: str) -> Iterator[Deployment]:
    made = Deployment.create(tmp_path, database_url=database_url, broker_url=broker_url)
    yield made
    made.close()


def test_the_selects_of_readme_and_demo_run(database_url: str) -> None:
    selects = [part for part in block("sql", "grader.agreement").split(";") if "SELECT" in part]
    _, shown = try_lines(Settings(), batch_ids=[1, 2])
    assert (len(selects), len(shown)) == (3, 3)
    database = make_engine(database_url)
    with database.connect() as connection:
        for select in (*selects, *shown):
            assert connection.execute(text(select.rstrip().rstrip(";"))).keys()
    database.dispose()


def test_your_own_data_goes_from_a_scored_file_to_agreement(town: Deployment) -> None:
    """The README's lines as they stand, on a small file; `up` and the background worker are the fixture's."""
    scored = town.folder / "scored.jsonl"
    with scored.open("w", encoding="utf-8") as stream:
        for number in range(120):
            level = number % 3
            words = [
                "the ice melts",
                *["heat"] * level,
                *["water"] * (number % 5),
                "yes" if number % 2 else "no",
            ]
            fold = "train" if number < 80 else "validation" if number < 100 else "test"
            record = {"item_id": "own", "response_id": f"r{number}", "text": " ".join(words), "score": level}
            stream.write(json.dumps(record | {"fold": fold}) + "\n")
    lines = [
        shlex.split(line.removeprefix("$ scorefold ").split("#")[0], comments=False)
        for line in block("console", "items draft").splitlines()
        if line.startswith("$ scorefold ")
    ]
    verbs = [line[0] for line in lines]
    assert verbs == ["up", "items", "items", "train", "worker", "submit", "humans", "scores"]
    town.start_worker()
    for line in lines:
        if line[0] == "worker":
            continue
        paths = [str(town.folder / part) if part.endswith((".jsonl", ".json")) else part for part in line]
        done = town.run(*paths)
    assert "own" in done.stdout
    assert (
        town.count("SELECT count(*) FROM grader.scores WHERE item_id = 'own' AND human_level IS NOT NULL")
        == 20
    )
    assert town.faults() == []
