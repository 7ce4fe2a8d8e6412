"""Files that verbs write: never over a file that is read, never over each other, whole or not at all."""

from __future__ import annotations

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
