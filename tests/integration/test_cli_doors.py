"""Files through the real command into a real database, and every way to get it wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from db.session import make_engine
from tests import rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Engine

#: Stands in answers; no line that a command prints may repeat it.
MARKER = "Gletscherkuss"
HEADER = "response_id,item_id,text,attempt\n"
NOWHERE = "127.0.0.1:1"


@pytest.fixture(autouse=True)
def database(database_url: str) -> Iterator[Engine]:
    engine = make_engine(database_url)
    with engine.begin() as connection:
        rows.serve(connection, "ice", "snow")
    yield engine
    engine.dispose()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "night.csv"


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def answers(num_rows: int, *, first: int = 1) -> str:
    return "".join(f"r{number},ice,{MARKER} {number},1\n" for number in range(first, first + num_rows))


def number(database: Engine, table: str) -> int:
    with database.connect() as connection:
        return int(connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())


def in_the_ledger(database: Engine) -> tuple[int, int, int]:
    return tuple(number(database, f"ingest.{table}") for table in ("batch", "submission", "work"))


def one_line(message: str) -> str:
    assert message.startswith("error: ")
    assert message.endswith("\n")
    assert message.count("\n") == 1
    assert MARKER not in message
    return message[7:-1]


WHOLE_FILE_FAULTS = {
    "cp1252": (HEADER + answers(50) + "r,ice,schmölze,1\n").encode("cp1252"),
    "UTF-16, cut off": (HEADER + answers(2)).encode("utf-16")[:-1],
    "missing column": "response_id,text\nr1," + MARKER,
    "no header": answers(3),
    "empty": b"",
    "header only": HEADER,
    "spreadsheet": b"PK\x03\x04" + MARKER.encode(),
    "JSON array": f'[{{"text": "{MARKER}"}}]',
    "unclosed quote": HEADER + answers(50) + f'r,ice,"{MARKER},1\n' + answers(5, first=60),
    "long line": HEADER + answers(2) + "x" * 20_000,
}


@pytest.mark.parametrize("content", WHOLE_FILE_FAULTS.values(), ids=WHOLE_FILE_FAULTS)
def test_a_broken_file_is_one_line_and_accepts_nothing(scorefold, database, file, content):
    scorefold.set(INTAKE__MAX_LINE_BYTES=10_000)
    done = scorefold("submit", write(file, content))
    assert (done.code, done.out) == (1, "")
    assert one_line(done.err).startswith(f"{file}: ")
    assert in_the_ledger(database) == (0, 0, 0)


def test_what_is_no_file_is_one_line_for_every_verb_that_reads(scorefold, database, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name in ("", "absent.csv", "n" * 300, "pipe"):
        for verb in (("submit",), ("humans", "import"), ("items", "load"), ("items", "draft")):
            done = scorefold(*verb, tmp_path / name)
            assert (done.code, done.out) == (1, "")
            assert one_line(done.err).startswith(f"{tmp_path / name}: ")
    assert in_the_ledger(database) == (0, 0, 0)


BROKEN_ROWS = f"""r91,unheard-of,{MARKER},1
r92,ice,{MARKER},{"9" * 5000}
r93,ice,{MARKER}
,ice,{MARKER},1
r1,ice,{MARKER} other,1
"""
REASONS = ["unknown_item", "attempt_invalid", "wrong_columns", "response_id_missing", "conflict"]


def test_broken_rows_are_told_by_line_and_the_others_accepted(scorefold, database, file):
    done = scorefold("submit", write(file, HEADER + answers(3) + BROKEN_ROWS + answers(2, first=7)))
    assert done.code == 3
    assert "10 rows read, 5 are new" in done.out
    assert "1 in conflict, 4 rejected" in done.out
    told = done.err.splitlines()
    assert [line.split(": ")[1] for line in told] == [f"line {line}" for line in range(5, 10)]
    assert [line.rpartition("(")[2].rstrip(")") for line in told] == REASONS
    assert MARKER not in done.err + done.out
    assert in_the_ledger(database) == (1, 5, 5)
    with database.connect() as connection:
        kept = connection.execute(text("SELECT line, reason FROM ingest.reject ORDER BY line")).all()
    assert kept == list(zip(range(5, 10), REASONS, strict=True))


def test_strict_accepts_nothing_if_a_row_is_refused(scorefold, database, file):
    write(file, HEADER + answers(3) + BROKEN_ROWS)
    done = scorefold("submit", file, "--strict")
    assert (done.code, done.out) == (1, "")
    assert one_line(done.err) == (
        f"{file}: line 5: item unheard-of has not been loaded (unknown_item); nothing accepted,"
        " 5 row(s) refused"
    )
    assert in_the_ledger(database) == (0, 0, 0)
    done = scorefold("submit", write(file, HEADER + answers(3)), "--strict")
    assert (done.code, done.err) == (0, "")
    assert in_the_ledger(database) == (1, 3, 3)


def test_a_dry_run_tells_the_same_and_changes_nothing(scorefold, database, file):
    write(file, HEADER + answers(3) + BROKEN_ROWS)
    tried = scorefold("submit", file, "--dry-run", "--json")
    assert tried.code == 3
    assert in_the_ledger(database) == (0, 0, 0)
    assert number(database, "pii.student") == number(database, "ingest.reject") == 0
    done = scorefold("submit", file, "--json")
    counts = [
        {name: told[name] for name in told if name.startswith("num_")}
        for told in (json.loads(tried.out), json.loads(done.out))
    ]
    assert counts[0] == counts[1]
    assert json.loads(tried.out)["dry_run"] is True


def test_a_file_of_unknown_items_is_taken_once_they_are_loaded(scorefold, database, file, tmp_path):
    write(file, f"{HEADER}r1,hail,{MARKER},1\n")
    refused = scorefold("submit", file)
    assert refused.code == 3
    assert refused.err == f"{file}: line 2: item hail has not been loaded (unknown_item)\n"
    assert number(database, "ingest.submission") == 0
    items = [{"id": "hail", "traits": [{"name": "overall", "levels": ["wrong", "right"]}]}]
    assert scorefold("items", "load", write(tmp_path / "items.json", json.dumps(items))).code == 0
    accepted = scorefold("submit", file)
    assert (accepted.code, accepted.err) == (0, "")
    assert in_the_ledger(database) == (1, 1, 1)


def test_the_same_file_again_and_under_another_name_adds_nothing(scorefold, database, file, tmp_path):
    write(file, HEADER + answers(4))
    assert "4 are new" in scorefold("submit", file).out
    again = scorefold("submit", file)
    assert (again.code, again.err) == (0, "")
    assert "0 are new, 4 known already" in again.out
    renamed = scorefold("submit", write(tmp_path / "copy.csv", file.read_bytes()))
    assert "0 are new, 4 known already" in renamed.out
    longer = scorefold("submit", write(tmp_path / "more.csv", file.read_text() + answers(1, first=9)))
    assert "1 are new, 0 known already, 4 repeated" in longer.out
    assert in_the_ledger(database) == (2, 5, 5)


def test_the_same_key_with_another_text_is_a_conflict_named_by_its_line(scorefold, database, file, tmp_path):
    scorefold("submit", write(file, HEADER + answers(4)))
    other = write(tmp_path / "other.csv", HEADER + answers(2) + f"r3,ice,{MARKER} again,1\nr3,ice,x,2\n")
    done = scorefold("submit", other)
    assert done.code == 3
    assert (
        done.err == f"{other}: line 4: response r3 attempt 1 is in the ledger with other content (conflict)\n"
    )
    with database.connect() as connection:
        kept = connection.execute(
            text("SELECT text FROM ingest.submission WHERE response_id = 'r3'")
        ).scalars()
        assert sorted(kept) == [f"{MARKER} 3", "x"]
    elsewhere = scorefold("submit", other, "--source", "another-lms")
    assert (elsewhere.code, number(database, "ingest.submission")) == (0, 9)


def test_only_takes_the_rows_asked_for(scorefold, database, file):
    write(file, f"{HEADER}r1,ice,a,1\nr2,snow,b,1\nr3,unheard-of,c,1\n")
    assert scorefold("submit", file, "--only", "item_id=snow").code == 0
    assert number(database, "ingest.submission") == 1
    for wrong, told in {
        "item_id": "--only item_id: write name=value, for instance --only fold=test",
        "item_id=hail": f"{file}: no row has item_id=hail",
        "nothing=1": f"{file}: no row has nothing=1",
    }.items():
        done = scorefold("submit", file, "--only", wrong)
        assert (done.code, one_line(done.err)) == (1, told)


def test_a_file_name_that_is_no_text_is_no_obstacle(scorefold, database, tmp_path):
    path = tmp_path / "n\udcf6cht [b].csv"
    done = scorefold("submit", write(path, HEADER + answers(2)))
    assert done.code == 0
    with database.connect() as connection:
        assert connection.execute(text("SELECT file_name FROM ingest.batch")).scalar_one() == "n?cht [b].csv"


def test_without_redis_a_file_is_accepted_and_the_user_told(scorefold, database, file):
    scorefold.set(BROKER__URL=f"redis://:hunter2@{NOWHERE}/0")
    done = scorefold("submit", write(file, HEADER + answers(4)))
    assert done.code == 0
    assert "4 are new" in done.out
    assert done.err.startswith("accepted, not yet sent: Redis does not answer")
    assert done.err.count("\n") == 1
    assert "hunter2" not in done.err
    assert in_the_ledger(database) == (1, 4, 4)
    with database.connect() as connection:
        sent = connection.execute(text("SELECT count(*) FROM ingest.work WHERE dispatched_at IS NOT NULL"))
        assert sent.scalar_one() == 0


def test_with_an_embedded_redis_that_does_not_run_a_file_is_accepted_too(scorefold, database, file):
    scorefold.set(BROKER__URL=None)
    done = scorefold("submit", write(file, HEADER + answers(4)))
    assert done.code == 0
    assert done.err.startswith("accepted, not yet sent: redis does not run in ")
    assert in_the_ledger(database) == (1, 4, 4)


@pytest.mark.parametrize(
    "verb",
    [
        ("submit", "FILE"),
        ("humans", "import", "FILE"),
        ("items", "load", "ITEMS"),
        ("items", "list"),
        ("scores",),
        ("status",),
        ("migrate",),
        ("up",),
    ],
    ids=" ".join,
)
def test_without_postgres_a_command_says_try_again(scorefold, file, tmp_path, verb):
    write(file, HEADER + answers(2))
    items = [{"id": "hail", "traits": [{"name": "overall", "levels": ["wrong", "right"]}]}]
    named = {"FILE": file, "ITEMS": write(tmp_path / "items.json", json.dumps(items))}
    scorefold.set(DATABASE__URL=f"postgresql://me:hunter2@{NOWHERE}/x")
    done = scorefold(*(named.get(word, word) for word in verb))
    assert (done.code, done.out) == (75, "")
    assert one_line(done.err).startswith("Postgres does not answer: ")
    assert "hunter2" not in done.err


def test_a_killed_submit_accepts_nothing_and_its_repetition_everything(
    scorefold, database, file, database_url, broker_url
):
    num_rows = 40_000
    write(file, HEADER + answers(num_rows))
    process = subprocess.Popen(
        [sys.executable, "-m", "workers.cli", "submit", str(file)],
        env={**os.environ, "SCOREFOLD_DATABASE__URL": database_url, "SCOREFOLD_BROKER__URL": broker_url},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        copying = (
            "SELECT count(*) FROM pg_stat_progress_copy"
            " WHERE datname = current_database() AND tuples_processed > 100"
        )
        wait_until(database, copying, 1, process)
    finally:
        process.send_signal(signal.SIGKILL)
    assert process.wait(30) == -signal.SIGKILL
    others = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND pid <> pg_backend_pid() AND backend_type = 'client backend' AND query LIKE 'COPY%'"
    )
    wait_until(database, others, 0)
    assert in_the_ledger(database) == (0, 0, 0)
    again = scorefold("submit", file)
    assert (again.code, again.err) == (0, "")
    assert in_the_ledger(database) == (1, num_rows, num_rows)


def wait_until(
    database: Engine, query: str, wanted: int, process: subprocess.Popen[bytes] | None = None
) -> None:
    deadline = time.monotonic() + 60
    while True:
        with database.connect() as connection:
            if connection.execute(text(query)).scalar_one() == wanted:
                return
        assert process is None or process.poll() is None, "the command has ended before it could be killed"
        assert time.monotonic() < deadline, query
        time.sleep(0.01)
