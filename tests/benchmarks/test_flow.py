"""`make bench NAME=flow`: 50,000 answers from file to committed scores, against the engine alone.

Real Postgres, Redis and Celery, a worker process a core; before it as many processes with the engine and
nothing else, on the same answers in calls of the same size. Wall time: run it on a quiet machine.
`ARGS=--short` takes few answers and three items. Texts are made distinct, so that nothing is collapsed; a
second run repeats them.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from db import registry
from db.registry import ItemRecord, TraitRecord
from db.session import make_engine
from scoring.backbone import Backbone
from tests.benchmarks.suite import SHORT, suite
from tests.benchmarks.trained import trained_suite
from tests.deployment import Deployment
from tests.unit.tiny_encoders import store_folder
from workers.records import stored_record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scoring.artifacts import ArtifactStore
    from tests.benchmarks.trained import TrainedItem

NUM_ANSWERS = 50_000
NUM_SHORT = 1200
_STAGES = {"claimed": ("s",), "settled": ("score_s", "commit_s")}


@pytest.mark.timeout(0)
def test_flow(
    shared_data: Path, tmp_path: Path, database_url: str, broker_url: str, request: pytest.FixtureRequest
) -> None:
    is_short = request.config.getoption("--short")
    num_answers = NUM_SHORT if is_short else NUM_ANSWERS
    chosen = [one for one in suite(shared_data) if not is_short or one[0].item_id in SHORT]
    store, items = trained_suite(chosen, Backbone.load("minilm"), is_short=is_short)
    num_workers = len(os.sched_getaffinity(0))
    deployment = _deployment(tmp_path, store, database_url, broker_url)
    _register(deployment, store, items)
    distinct = _answers(tmp_path / "distinct.jsonl", items, num_answers, make_distinct=True)
    repeated = _answers(tmp_path / "repeated.jsonl", items, num_answers, make_distinct=False)
    alone = _engines_alone(store, distinct, num_workers)
    flow = _flow(deployment, distinct, num_answers, num_workers, max_recent_answers=0)
    with_repeats = _flow(deployment, repeated, num_answers, num_workers, max_recent_answers=num_answers)
    found = {
        "flow_vs_engine": round(alone["wall_s"] / flow["wall_s"], 3),
        "flow_vs_engine_with_duplicates": round(alone["wall_s"] / with_repeats["wall_s"], 3),
        "flow_vs_engine_cpu": round(alone["cpu_s"] / flow["cpu_s"], 3),
        "answers_per_s": round(num_answers / flow["wall_s"], 1),
        "num_answers": num_answers,
        "num_workers": num_workers,
        "stages": flow["stages"],
        "stages_with_duplicates": with_repeats["stages"],
    }
    print(json.dumps(found))
    faults = deployment.faults()
    deployment.close()
    assert not faults


def _deployment(folder: Path, store: ArtifactStore, database_url: str, broker_url: str) -> Deployment:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("SCOREFOLD_")},
        "SCOREFOLD_HOME__PATH": str(folder / "home"),
        "SCOREFOLD_DATABASE__URL": database_url,
        "SCOREFOLD_BROKER__URL": broker_url,
        "SCOREFOLD_ARTIFACTS__URL": store_folder(store),
        "SCOREFOLD_TELEMETRY__LOG_LEVEL": "debug",
        "SCOREFOLD_TELEMETRY__LOG_FORMAT": "json",
    }
    return Deployment(folder, make_engine(database_url), environment)


def _register(deployment: Deployment, store: ArtifactStore, items: Sequence[TrainedItem]) -> None:
    for one in items:
        artifact, item = store.read_scorer(one.scorer), one.item
        extractor = store.read_extractor(artifact.extractor)
        traits = tuple(TraitRecord(trait.name, trait.num_levels) for trait in item.traits)
        record = stored_record(
            item.item_id,
            one.scorer,
            artifact.extractor,
            extractor,
            num_bytes=store.num_bytes(artifact.extractor),
            metrics={},
        )
        with deployment.database.begin() as connection:
            registry.save_items(
                connection, [ItemRecord(item.item_id, item.prompt, item.language, "", traits)]
            )
            scorer_id = registry.register_scorer(connection, record)
            registry.promote(connection, [scorer_id], actor="bench", reason="bench")


def _answers(path: Path, items: Sequence[TrainedItem], num_answers: int, *, make_distinct: bool) -> Path:
    """Real answers over and over; distinct ones get the number of the round at their end."""
    real = [(one, answer.text) for one in items for answer in one.answers]
    seen: set[tuple[str, str]] = set()
    with path.open("w", encoding="utf-8") as file:
        for number in range(num_answers):
            one, text = real[(number * 7919) % len(real)]
            if make_distinct and (one.scorer, text) in seen:
                text = f"{text} {number}"
            seen.add((one.scorer, text))
            row = {"response_id": f"{path.stem}{number}", "item_id": one.item.item_id, "text": text}
            file.write(json.dumps(row | {"scorer": one.scorer}) + "\n")
    return path


def _engines_alone(store: ArtifactStore, answers: Path, num_processes: int) -> dict[str, float]:
    command = [
        sys.executable,
        "-m",
        "tests.benchmarks.engine_alone",
        store_folder(store),
        str(answers),
        "auto",
    ]
    root = Path(__file__).resolve().parents[2]
    processes = [
        subprocess.Popen(
            [*command, str(part), str(num_processes)],
            cwd=root,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for part in range(num_processes)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    told = [json.loads(process.communicate()[0]) for process in processes]
    return {"wall_s": max(one["wall_s"] for one in told), "cpu_s": sum(one["cpu_s"] for one in told)}


def _flow(
    deployment: Deployment, answers: Path, num_answers: int, num_workers: int, *, max_recent_answers: int
) -> dict[str, float | dict[str, float]]:
    deployment.environment["SCOREFOLD_ENGINE__MAX_RECENT_ANSWERS"] = str(max_recent_answers)
    log = deployment.folder / "worker.log"
    log.unlink(missing_ok=True)
    workers = [deployment.start_worker() for _ in range(num_workers)]
    deployment.wait_until_log("worker_ready", times=num_workers)
    before_s = sum(_cpu_s(worker.pid) for worker in workers)
    started = time.monotonic()
    deployment.run("submit", str(answers))
    submitted = time.monotonic()
    deployment.wait_until_settled(timeout_s=max(600.0, num_answers / 20))
    wall_s = time.monotonic() - started
    cpu_s = sum(_cpu_s(worker.pid) for worker in workers) - before_s
    for worker in workers:
        worker.terminate()
    for worker in workers:
        worker.wait(60)
    stages = _stages(log) | {"submit_s": round(submitted - started, 2)}
    return {"wall_s": wall_s, "cpu_s": cpu_s, "stages": stages}


def _stages(log: Path) -> dict[str, float]:
    """Seconds of each stage over all claims, and the median of one claim."""
    found: dict[str, list[float]] = defaultdict(list)
    for line in log.read_text(encoding="utf-8").splitlines():
        try:
            told = json.loads(line)
        except ValueError:
            continue
        for name in _STAGES.get(told.get("action", ""), ()):
            found["claim_s" if name == "s" else name].append(told[name])
    sums = {name: round(sum(values), 2) for name, values in found.items()}
    return sums | {f"median_{name}": round(statistics.median(values), 4) for name, values in found.items()}


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
