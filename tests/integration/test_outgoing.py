"""Scores out of a real Postgres: safe cells, nothing left out by the cursor, files whole or not at all."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from db.outgoing import COLUMNS, Wanted
from db.session import make_engine
from scoring.errors import InvalidInputError
from tests import graded
from workers.outgoing import export_scores
from workers.spreadsheets import plain_cell

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Engine

NO_CURSORS = [
    (content, "holds no cursor")
    for content in ("[]", "{}", "true", "9" * 5000, '{"cursor": 1, "colour": "red"}', "[" * 100_000)
]


@pytest.fixture
def database(database_url: str) -> Iterator[Engine]:
    engine = make_engine(database_url)
    with engine.begin() as connection:
        graded.score_a_night(connection)
    yield engine
    engine.dispose()


def give(database: Engine, submission_id: int, level: int) -> None:
    with database.begin() as connection:
        connection.execute(
            text("INSERT INTO grader.human_scores (submission_id, level) VALUES (:id, :level)"),
            {"id": submission_id, "level": level},
        )


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_csv_has_what_counts_and_no_formula(database: Engine, tmp_path: Path) -> None:
    with database.begin() as connection:
        connection.execute(
            text("UPDATE ingest.submission SET response_id = '=cmd|x' WHERE submission_id = 1")
        )
    path = tmp_path / "scores.csv"
    assert export_scores(database, path, Wanted(with_students=True), file_format="csv") == 200
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert tuple(rows[0]) == ("student_id", *COLUMNS)
    assert [row["student_id"] for row in rows[:5]] == ["901"] * 4 + [""]
    assert rows[0]["response_id"] == "'=cmd|x"
    assert (rows[4]["given_by"], rows[4]["level"], rows[4]["rater"]) == ("human", "2", "ann")
    assert (rows[8]["level"], rows[8]["condition_code"]) == ("", "blank")


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-x", "@SUM(A1)", "\t=1", "\r=1", "  =1", "\n=1", "＝1"])
def test_every_cell_that_would_run_is_made_plain(cell: str) -> None:
    assert plain_cell(cell) == f"'{cell}"


@pytest.mark.parametrize("cell", ["ice", "1-2", "", -1, -0.5, None])
def test_other_cells_stay(cell: object) -> None:
    assert plain_cell(cell) == cell


def test_a_persons_score_goes_out_where_no_machine_has_scored(database: Engine, tmp_path: Path) -> None:
    with database.begin() as connection:
        connection.execute(text("DELETE FROM score.machine_score WHERE submission_id <= 2"))
    path, cursor = tmp_path / "scores.jsonl", tmp_path / "lms.cursor"
    assert export_scores(database, path, Wanted(), file_format="jsonl", cursor=cursor) == 198
    give(database, 2, 1)
    path.unlink()
    export_scores(database, path, Wanted(), file_format="jsonl", cursor=cursor)
    (row,) = [line for line in lines(path) if line["response_id"] == "r002"]
    assert (row["level"], row["given_by"], row["confidence"], row["scorer_id"]) == (1, "human", None, None)
    columns = tmp_path / "scores.parquet"
    assert export_scores(database, columns, Wanted(), file_format="parquet") == 199


def test_only_what_was_asked_for(database: Engine, tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    assert export_scores(database, path, Wanted(item_id="ramp", batch_id=1), file_format="jsonl") == 100
    assert {row["item_id"] for row in lines(path)} == {"ramp"}
    assert "student_id" not in lines(path)[0]
    assert export_scores(database, path, Wanted(source="other"), file_format="jsonl") == 0
    assert lines(path) == []


def test_the_cursor_gives_changes_and_waits_for_those_who_commit_late(
    database: Engine, tmp_path: Path
) -> None:
    path, cursor = tmp_path / "scores.jsonl", tmp_path / "lms.cursor"

    def changed() -> set[int]:
        export_scores(database, path, Wanted(), file_format="jsonl", cursor=cursor)
        return {int(row["response_id"][1:]) for row in lines(path)}

    assert len(changed()) == 200
    assert changed() == set()
    give(database, 7, 0)
    assert changed() == {7}
    with database.connect() as late:
        late.execute(text("INSERT INTO grader.human_scores (submission_id, level) VALUES (11, 0)"))
        give(database, 12, 0)
        assert changed() == {12}
        late.commit()
    # The one that was under way while the last cursor was taken comes now; its neighbour may come again.
    assert changed() in ({11}, {11, 12})
    assert changed() == set()


def test_a_cursor_of_another_database_or_none_at_all_is_refused(database: Engine, tmp_path: Path) -> None:
    path, cursor = tmp_path / "scores.jsonl", tmp_path / "lms.cursor"
    path.write_text("before")
    for content, told in (
        ("9" * 18, "not from this database"),
        ("x", "holds no cursor"),
        ("-1", "holds no"),
        *NO_CURSORS,
    ):
        cursor.write_text(content)
        with pytest.raises(InvalidInputError, match=f"{cursor}: .*{told}"):
            export_scores(database, path, Wanted(), file_format="jsonl", cursor=cursor)
        assert path.read_text() == "before"
        assert cursor.read_text() == content


def test_a_cursor_is_for_the_filters_it_was_made_with(database: Engine, tmp_path: Path) -> None:
    path, cursor = tmp_path / "scores.jsonl", tmp_path / "lms.cursor"
    ramp = Wanted(source="file", item_id="ramp", with_students=True)
    export_scores(database, path, ramp, file_format="jsonl", cursor=cursor)
    held = json.loads(cursor.read_text())
    assert held.pop("cursor") > 0
    assert held == {"source": "file", "item": "ramp", "batch": None, "with_students": True}
    export_scores(database, path, ramp, file_format="jsonl", cursor=cursor)
    assert lines(path) == []
    before = cursor.read_text()
    for other in (
        Wanted(),
        replace(ramp, source="x"),
        replace(ramp, item_id=None),
        replace(ramp, batch_id=1),
        replace(ramp, with_students=False),
    ):
        with pytest.raises(InvalidInputError, match="made with --source file --item ramp --with-students, "):
            export_scores(database, path, other, file_format="jsonl", cursor=cursor)
    assert cursor.read_text() == before


def test_a_bare_number_counts_as_a_cursor_without_filters(database: Engine, tmp_path: Path) -> None:
    path, cursor = tmp_path / "scores.jsonl", tmp_path / "lms.cursor"
    export_scores(database, path, Wanted(), file_format="jsonl", cursor=cursor)
    cursor.write_text(f"{json.loads(cursor.read_text())['cursor']}\n")
    with pytest.raises(InvalidInputError, match="made with no filter, this export is with --item ramp: "):
        export_scores(database, path, Wanted(item_id="ramp"), file_format="jsonl", cursor=cursor)
    assert export_scores(database, path, Wanted(), file_format="jsonl", cursor=cursor) == 0


def test_a_file_that_cannot_be_written_leaves_nothing(database: Engine, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"absent/x\.csv: cannot be written"):
        export_scores(database, tmp_path / "absent" / "x.csv", Wanted(), file_format="csv")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InvalidInputError, match="folder: cannot be written"):
        export_scores(database, tmp_path / "folder", Wanted(), file_format="csv")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
