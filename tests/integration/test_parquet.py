"""Parquet in and out: typed columns, files that are cut off, and a clear word where pyarrow is missing."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from db.intake import IncomingRow
from db.outgoing import COLUMNS, Wanted
from db.session import make_engine
from scoring.errors import InvalidInputError
from tests import graded, rows
from workers.importers import answers, files
from workers.intake import HumanOrigin, import_human_scores, submit_file
from workers.outgoing import export_scores
from workers.settings import IntakeSettings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Engine

pyarrow = pytest.importorskip("pyarrow", reason="the extra [parquet] is not installed")
parquet = pytest.importorskip("pyarrow.parquet", reason="the extra [parquet] is not installed")

MOMENT = datetime(2026, 3, 1, 8, 30, tzinfo=UTC)


@pytest.fixture
def database(database_url: str) -> Iterator[Engine]:
    engine = make_engine(database_url)
    yield engine
    engine.dispose()


def written(path: Path, **columns: list[object]) -> Path:
    parquet.write_table(pyarrow.table(columns), path)
    return path


def read(path: Path, *, required: tuple[str, ...] = answers.SUBMISSION_FIELDS) -> list[object]:
    records = files.read_records(files.inspect(path), required=required, max_line_bytes=1000)
    return list(answers.submissions(records, max_text_chars=100))


def test_typed_columns_become_answers(tmp_path: Path) -> None:
    path = written(
        tmp_path / "a.parquet",
        response_id=[7, 8, None],
        item_id=["ice"] * 3,
        text=["it melts", "", "x"],
        attempt=[1, None, 2],
        submitted_at=[MOMENT, None, None],
    )
    first, second, third = read(path)
    assert isinstance(first, IncomingRow)
    assert (first.line, first.response_id, first.text, first.submitted_at) == (1, "7", "it melts", MOMENT)
    assert (second.response_id, second.text, second.attempt) == ("8", "", 1)
    assert (third.line, third.reason) == (3, "response_id_missing")


def test_a_file_goes_into_the_ledger_and_its_human_scores_too(database: Engine, tmp_path: Path) -> None:
    with database.begin() as connection:
        rows.serve(connection, "ice")
    numbers = list(range(2500))
    path = written(
        tmp_path / "a.parquet",
        response_id=[f"r{n}" for n in numbers],
        item_id=["ice"] * 2500,
        text=[f"answer {n}" for n in numbers],
    )
    told: list[int] = []
    report = submit_file(database, path, source="lms", limits=IntakeSettings(), progress=told.append)
    assert (report.num_new, report.file_format) == (2500, "parquet")
    assert told == sorted(told)
    assert told[-1] == path.stat().st_size
    human = written(
        tmp_path / "h.parquet", response_id=["r1", "r2"], scores=[{"t0": 1}, {"t0": 2}], other=[None, None]
    )
    origin = HumanOrigin("lms", "ada", "first")
    assert import_human_scores(database, human, origin=origin, limits=IntakeSettings()).num_new == 2


def test_only_what_was_asked_for(tmp_path: Path) -> None:
    path = written(
        tmp_path / "a.parquet", response_id=["a", "b"], item_id=["i", "i"], text=["x", "y"], fold=[1, 2]
    )
    source = files.inspect(path)
    found = files.read_records(source, required=("text",), max_line_bytes=9, only={"fold": "2"})
    assert [record.fields["response_id"] for record in found] == ["b"]


@pytest.mark.parametrize("num_bytes", [4, 60, -1])
def test_a_file_that_is_cut_off_is_one_clear_error(tmp_path: Path, num_bytes: int) -> None:
    path = written(tmp_path / "a.parquet", response_id=["a"], item_id=["i"], text=["Gletscherkuss"])
    path.write_bytes(path.read_bytes()[:num_bytes])
    with pytest.raises(InvalidInputError, match=r"a\.parquet: cannot be read as Parquet") as told:
        read(path)
    assert "Gletscherkuss" not in str(told.value)


def test_a_damaged_page_is_one_clear_error(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", response_id=["a"], item_id=["i"], text=["x" * 50])
    content = bytearray(path.read_bytes())
    content[4:40] = bytes(36)
    path.write_bytes(content)
    with pytest.raises(InvalidInputError, match="cannot be read as Parquet"):
        read(path)


def test_missing_and_repeated_columns_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"missing column\(s\) item_id; found response_id, text"):
        read(written(tmp_path / "a.parquet", response_id=["a"], text=["x"]))
    twice = pyarrow.Table.from_arrays([pyarrow.array(["a"])] * 2, names=["text", "text"])
    parquet.write_table(twice, tmp_path / "b.parquet")
    with pytest.raises(InvalidInputError, match=r"column\(s\) text stand twice"):
        read(tmp_path / "b.parquet", required=("text",))


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "a.parquet", response_id=["a"], item_id=["i"], text=["x"])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InvalidInputError, match=r"pip install 'scorefold\[parquet\]'"):
        read(path)


def test_scores_go_out_with_their_types(database: Engine, tmp_path: Path) -> None:
    with database.begin() as connection:
        graded.score_a_night(connection)
    path = tmp_path / "scores.parquet"
    assert export_scores(database, path, Wanted(with_students=True), file_format="parquet") == 200
    table = parquet.read_table(path)
    assert tuple(table.column_names) == ("student_id", *COLUMNS)
    types = {name: str(table.schema.field(name).type) for name in ("level", "confidence", "changed_at")}
    assert types == {"level": "int16", "confidence": "float", "changed_at": "timestamp[us, tz=UTC]"}
    rows_out = table.to_pylist()
    assert [row["student_id"] for row in rows_out[:5]] == ["901"] * 4 + [None]
    assert (rows_out[8]["level"], rows_out[8]["condition_code"]) == (None, "blank")
    assert [child.name for child in tmp_path.iterdir()] == ["scores.parquet"]


def test_nothing_asked_for_is_an_empty_file_with_its_columns(database: Engine, tmp_path: Path) -> None:
    path = tmp_path / "scores.parquet"
    assert export_scores(database, path, Wanted(), file_format="parquet") == 0
    assert tuple(parquet.read_table(path).column_names) == COLUMNS
