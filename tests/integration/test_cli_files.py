"""Files that verbs write: never over a file that is read, never over each other, whole or not at all."""

from __future__ import annotations

import json
import os
import stat

import pytest

from db.session import make_engine
from tests import rows
from workers.replacing import replaced

ANSWERS = "response_id,item_id,text\nr1,ice,it melts\nr2,nowhere,it melts\n"
SCORED = "item_id,text,score\nhail,it falls,2\n"
LEVELS = "response_id,machine,human\na,1,1\nb,0,0\n"


@pytest.fixture
def desk(tmp_path, monkeypatch, database_url):
    engine = make_engine(database_url)
    with engine.begin() as connection:
        rows.serve(connection, "ice")
    engine.dispose()
    folder = tmp_path / "desk"
    folder.mkdir()
    for name, content in (
        ("answers.csv", ANSWERS),
        ("scored.csv", SCORED),
        ("levels.csv", LEVELS),
        ("levels.json", LEVELS),
        ("sources.toml", "[lms]\n"),
        ("groups.csv", "response_id,region\na,n\n"),
    ):
        (folder / name).write_text(content)
    (folder / "link.csv").symlink_to("answers.csv")
    os.link(folder / "answers.csv", folder / "twin.csv")
    monkeypatch.chdir(folder)
    return folder


def contents(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("submit answers.csv --rejects answers.csv", "--rejects answers.csv: the same file as FILE"),
        (
            "submit answers.csv --rejects answers.csv --dry-run",
            "--rejects answers.csv: the same file as FILE",
        ),
        ("submit answers.csv --rejects ../desk/answers.csv", "the same file as FILE"),
        ("submit answers.csv --rejects link.csv", "the same file as FILE"),
        ("submit answers.csv --rejects twin.csv", "the same file as FILE"),
        (
            "submit answers.csv --source lms --sources sources.toml --rejects sources.toml",
            "file as --sources",
        ),
        ("items draft scored.csv --out scored.csv", "--out scored.csv: the same file as FILE"),
        ("evaluate levels.csv --rsmtool levels.csv", "--rsmtool levels.csv: the same file as FILE"),
        ("evaluate levels.json --rsmtool levels.csv", "levels.json: the same file as FILE"),
        ("evaluate --groups groups.csv --group region --rsmtool groups.csv", "the same file as --groups"),
        ("export scores --out new.csv --cursor new.csv", "--out new.csv: the same file as --cursor"),
        ("export scores --out new.csv --cursor ./new.csv", "--out new.csv: the same file as --cursor"),
    ],
)
def test_nothing_is_written_over_another_file_of_the_same_command(scorefold, desk, typed, told):
    before = contents(desk)
    done = scorefold(*typed.split())
    assert (done.code, done.out) == (2, "")
    error = done.err.splitlines()[-1]
    assert told in error
    assert error.endswith("; name another")
    assert contents(desk) == before


def test_a_dry_run_writes_the_rejects_where_nothing_else_lies(scorefold, desk):
    done = scorefold("submit", "answers.csv", "--rejects", "new.csv", "--dry-run")
    assert done.code == 3
    assert [line.split(",")[:2] for line in contents(desk)["new.csv"].splitlines()[1:]] == [
        ["3", "unknown_item"]
    ]
    assert contents(desk)["answers.csv"] == ANSWERS


def test_a_dry_run_names_no_batch(scorefold, desk):
    told = scorefold("submit", "answers.csv", "--dry-run")
    assert told.out.startswith("no batch, csv: 2 rows read, 1 would be new")
    assert json.loads(scorefold("submit", "answers.csv", "--dry-run", "--json").out)["batch_id"] is None
    assert json.loads(scorefold("submit", "answers.csv", "--json").out)["batch_id"] > 0


def test_a_look_of_the_watch_says_by_its_exit_code_what_was_refused(scorefold, desk):
    look = ("watch", "in", "--once", "--settle-s", "0")
    (desk / "in").mkdir()
    (desk / "in" / "whole.csv").write_text("response_id,item_id,text\nr9,ice,it melts\n")
    assert scorefold(*look).code == 0
    (desk / "in" / "partly.csv").write_text(ANSWERS)
    partly = scorefold(*look)
    assert (partly.code, partly.out.count("1 new answers, 1 rows refused")) == (3, 1)
    (desk / "in" / "none.csv").write_text("no,header,of ours\n1,2,3\n")
    refused = scorefold(*look)
    assert refused.code == 1
    assert "none.csv: not taken: " in refused.out + refused.err


@pytest.mark.parametrize(
    "typed",
    [
        ("submit", "answers.csv", "--source", ""),
        ("submit", "answers.csv", "--source", "s" * 201),
        ("watch", "in", "--source", "a\u200bb"),
        ("quarantine", "list", "--door", "nope"),
        ("quarantine", "purge", "1", "--reason", " "),
        ("models", "rollback", "ice", "--reason", ""),
    ],
)
def test_what_cannot_be_kept_is_refused_before_anything_is_opened(scorefold, desk, typed):
    done = scorefold(*typed)
    assert done.code == 2
    assert "Invalid value for" in done.err


def test_rejects_that_cannot_be_written_to_the_end_leave_the_older_file(scorefold, desk, monkeypatch):
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    (desk / "old.csv").write_text("before")
    monkeypatch.setattr("workers.rejects.write_rows", full)
    before = contents(desk)
    done = scorefold("submit", "answers.csv", "--rejects", "old.csv")
    assert (done.code, done.err) == (1, "error: old.csv: cannot be written: No space left on device\n")
    assert contents(desk) == before


def test_what_is_no_plain_file_is_written_to_and_stays_what_it_is(desk):
    pipe = desk / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with replaced(pipe) as stream:
            stream.write("whole")
        assert os.read(reader, 100) == b"whole"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_name_may_be_as_long_as_names_can_be(desk):
    path = desk / ("x" * 251 + ".csv")
    with replaced(path) as stream:
        stream.write("whole")
    assert path.read_text() == "whole"
