"""`make bench NAME=intake`: a Canvas export of a million answers into the ledger, beside pandas' way there.

Seconds are CPU time, of the reading process and of its Postgres backend, so that they say the same on a busy
machine. pandas is measured twice on the same file: loading the table as it stands into a bare table
(`read_csv` and `to_sql`), and bringing the same answers into the same tables, with their keys, indexes and
constraints, as a script of some twenty lines would.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import pandas as pd
import pytest
from sqlalchemy import LargeBinary, Uuid, text

from db.session import make_engine
from tests import rows
from tests.conftest import _fresh_database
from tests.cpu_clock import BackendClock, backend_pid, cpu_s

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection, Engine

    from workers.embedded.services import ServiceUrls

NUM_QUESTIONS = 4
MAX_MEMORY_MB = 500
WORDS = "the ice melts because sun warms it and water goes up into air as vapour when heat moves"

#: Runs `submit` in a process of its own and tells its CPU seconds and its highest memory.
_SUBMIT = """
import json, resource, sys
from workers.cli import main
sys.argv = ["scorefold", *sys.argv[1:]]
try:
    main()
except SystemExit:
    pass
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"cpu_s": used.ru_utime + used.ru_stime, "max_kb": used.ru_maxrss}), file=sys.stderr)
"""


@dataclass(frozen=True, slots=True)
class Export:
    """A Canvas export and what is known about it."""

    path: Path
    sources: Path
    num_students: int

    @property
    def num_answers(self) -> int:
        return self.num_students * NUM_QUESTIONS


@pytest.fixture
def ledger(services: ServiceUrls, _template: str) -> Iterator[str]:
    with _fresh_database(services.database, "scorefold_bench_intake", template=_template) as url:
        engine = make_engine(url)
        with engine.begin() as connection:
            rows.serve(connection, *(f"item-{number}" for number in range(NUM_QUESTIONS)))
        engine.dispose()
        yield url


@pytest.mark.parametrize("num_students", [5_000, 250_000], ids=["short", "full"])
@pytest.mark.timeout(7200)
def test_intake_against_pandas(ledger: str, tmp_path: Path, num_students: int) -> None:
    export = write_export(tmp_path, num_students)
    killed_at = kill_half_way(ledger, export)
    ours = submit(ledger, export)
    assert (ours["num_new"], counted(ledger)) == (export.num_answers, (export.num_answers,) * 2)
    again = submit(ledger, export)
    assert (again["num_new"], counted(ledger)) == (0, (export.num_answers,) * 2)
    bare = loaded_by_pandas(ledger, export, into_bare_table)
    same = loaded_by_pandas(ledger, export, into_ledger)
    assert counted(ledger, source="pandas") == (export.num_answers, 2 * export.num_answers)
    told = {
        "answers": export.num_answers,
        "file_mb": round(export.path.stat().st_size / 1e6, 1),
        "answers_per_cpu_s": round(export.num_answers / (ours["cpu_s"] + ours["backend_cpu_s"])),
        "cpu_s": ours["cpu_s"],
        "backend_cpu_s": ours["backend_cpu_s"],
        "again_cpu_s": round(again["cpu_s"] + again["backend_cpu_s"], 2),
        "max_memory_mb": ours["max_memory_mb"],
        "pandas_bare_cpu_s": bare["cpu_s"],
        "pandas_ledger_cpu_s": same["cpu_s"],
        "pandas_max_memory_mb": same["max_memory_mb"],
        "against_pandas_ledger": round(same["cpu_s"] / (ours["cpu_s"] + ours["backend_cpu_s"]), 2),
        "killed_after_bytes": killed_at,
    }
    print(f"\n{json.dumps(told)}")
    assert ours["max_memory_mb"] < MAX_MEMORY_MB


def write_export(folder: Path, num_students: int) -> Export:
    """Student Analysis of a test of four questions, answers of 8 to 30 words, some with quotes and commas."""
    random, words, path = Random(1), WORDS.split(), folder / "canvas.csv"
    lead = ["name", "id", "sis_id", "section", "section_id", "section_sis_id", "submitted", "attempt"]
    asked = [cell for q in range(NUM_QUESTIONS) for cell in (f"{17 + q}: Why, says A;\nB?", "1.0")]
    with path.open("w", encoding="utf-8-sig", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow([*lead, *asked, "n correct", "n incorrect", "score"])
        for number in range(num_students):
            answers = [" ".join(random.choices(words, k=random.randrange(8, 30))) for _ in asked[::2]]
            answers = [f'{answer}, "{number}"' if number % 10 == 0 else answer for answer in answers]
            cells = [f"Student {number}", str(900_000 + number), f"s{number}", "1, 2", "1, 2", ""]
            cells += [f"2026-03-01 08:{number % 60:02}:00 UTC", "1"]
            writer.writerow([*cells, *(c for answer in answers for c in (answer, "0")), "0", "0", "0.0"])
    items = "".join(f"{17 + q},item-{q}\n" for q in range(NUM_QUESTIONS))
    (folder / "items.csv").write_text(f"question,item_id\n{items}", encoding="utf-8")
    sources = folder / "sources.toml"
    sources.write_text('[canvas]\nitems = "items.csv"\n', encoding="utf-8")
    return Export(path, sources, num_students)


def started(url: str, export: Export) -> subprocess.Popen[str]:
    arguments = ["submit", str(export.path), "--source", "canvas", "--sources", str(export.sources), "--json"]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("SCOREFOLD_")},
        "SCOREFOLD_DATABASE__URL": url,
        "SCOREFOLD_BROKER__URL": "redis://127.0.0.1:1/0",  # accepted is accepted, with or without a broker
        "SCOREFOLD_HOME__PATH": str(export.path.parent / "home"),
    }
    return subprocess.Popen(
        [sys.executable, "-c", _SUBMIT, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def kill_half_way(url: str, export: Export) -> int:
    """SIGKILL the process when it has read half of the file; nothing is accepted. Returns where it was."""
    process, half = started(url, export), export.path.stat().st_size // 2
    try:
        while (place := read_so_far(process.pid, export.path)) < half:
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    finally:
        process.kill()
        process.communicate()
    assert counted(url) == (0, 0)
    return place


def read_so_far(pid: int, path: Path) -> int:
    """How far a process is in a file that it has open, while the ledger takes rows; 0 before that."""
    open_files = Path(f"/proc/{pid}/fd")
    try:
        targets = {handle.name: str(handle.readlink()) for handle in open_files.iterdir()}
        handles = [name for name, target in targets.items() if target == str(path)]
        if not handles or not any(target.startswith("socket:") for target in targets.values()):
            return 0
        told = Path(f"/proc/{pid}/fdinfo/{handles[0]}").read_text(encoding="ascii")
        return int(told.split()[1])
    except OSError:
        return 0


def submit(url: str, export: Export) -> dict[str, float]:
    watcher = BackendClock(url)
    process = started(url, export)
    while process.poll() is None:
        watcher.look()
        time.sleep(0.05)
    out, err = process.communicate()
    assert process.returncode == 0, err
    used = json.loads(err.splitlines()[-1])
    report = json.loads(out)
    assert report["file_format"] == "canvas_classic"
    return {
        "num_new": report["num_new"],
        "cpu_s": round(used["cpu_s"], 2),
        "backend_cpu_s": round(watcher.total_s(), 2),
        "max_memory_mb": round(used["max_kb"] / 1024, 1),
    }


def counted(url: str, *, source: str = "canvas") -> tuple[int, int]:
    """Submissions of a source, and all rows of work."""
    engine = make_engine(url, statement_timeout_s=None)
    with engine.connect() as connection:
        found = connection.execute(
            text("""
                SELECT (SELECT count(*) FROM ingest.submission WHERE source = :source),
                       (SELECT count(*) FROM ingest.work)
            """),
            {"source": source},
        ).one()
    engine.dispose()
    return tuple(found)


def loaded_by_pandas(
    url: str, export: Export, load: Callable[[Connection, pd.DataFrame], None]
) -> dict[str, float]:
    engine: Engine = make_engine(url, statement_timeout_s=None)
    began_s = time.process_time()
    table = pd.read_csv(export.path, dtype=str)
    with engine.begin() as connection:
        pid = backend_pid(connection)
        before_s = cpu_s(pid)
        load(connection, table)
        used_s = time.process_time() - began_s + cpu_s(pid) - before_s
    engine.dispose()
    memory_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"cpu_s": round(used_s, 2), "max_memory_mb": round(memory_kb / 1024, 1)}


def into_bare_table(connection: Connection, table: pd.DataFrame) -> None:
    table.to_sql("bare", connection, schema="ops", index=False, chunksize=10_000)


def into_ledger(connection: Connection, table: pd.DataFrame) -> None:
    """The same answers in the same tables; without rejects, conflicts, a second run or a kill in mind."""
    students = pd.DataFrame({"source": "pandas", "source_student_id": table["id"].unique()})
    students.to_sql("student", connection, schema="pii", if_exists="append", index=False, chunksize=10_000)
    keys = pd.read_sql(
        text("SELECT source_student_id AS id, student_key FROM pii.student WHERE source = 'pandas'"),
        connection,
    )
    table = table.merge(keys, on="id")
    asked = [name for name in table.columns if name[:2].isdigit() and ": " in name]
    table.columns = [name.partition(":")[0] if name in asked else name for name in table.columns]
    numbers = [name.partition(":")[0] for name in asked]
    long = table.melt(["student_key", "submitted", "attempt"], numbers, "question", "text").fillna(
        {"text": ""}
    )
    long["source"] = "pandas"
    long["response_id"] = long["student_key"].astype(str) + ":" + long["question"]
    long["item_id"] = "item-" + (long["question"].astype(int) - 17).astype(str)
    long["submitted_at"] = pd.to_datetime(long.pop("submitted"))
    long["text_key"] = [hashlib.sha256(" ".join(one.split()).encode()).digest() for one in long["text"]]
    both = zip(long["item_id"], long["text"], strict=True)
    long["content_sha256"] = [hashlib.sha256(f"{item}\0{one}".encode()).digest() for item, one in both]
    long["attempt"] = long["attempt"].astype(int)
    long = long.drop(columns="question")
    long.to_sql(
        "submission",
        connection,
        schema="ingest",
        if_exists="append",
        index=False,
        chunksize=10_000,
        dtype={"student_key": Uuid(), "text_key": LargeBinary(), "content_sha256": LargeBinary()},
    )
    work = pd.read_sql(
        text("SELECT submission_id, item_id FROM ingest.submission WHERE source = 'pandas'"), connection
    )
    work.to_sql("work", connection, schema="ingest", if_exists="append", index=False, chunksize=10_000)
