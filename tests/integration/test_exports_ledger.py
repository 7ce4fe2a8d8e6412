"""Exports of learning platforms into the ledger on a real Postgres: pseudonyms, keys, rejects."""

from __future__ import annotations

import csv
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from db.session import make_engine
from tests import rows
from workers.importers.sources import Source
from workers.intake import Reading, submit_file
from workers.settings import IntakeSettings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Engine

HEADER = "name,id,section,section_id,submitted,attempt,17: Why?,1.0,18: How?,1.0,score\n"
ANN = "Ann,student-901,1,1,2026-03-01 08:30:00 UTC,1,it melts,0,,0,0\n"
BOB = 'Bob,student-902,1,1,2026-03-01 08:31:00 UTC,1,"=HYPERLINK(""x"")",0,,,0\n'


@pytest.fixture
def database(database_url: str) -> Iterator[Engine]:
    engine = make_engine(database_url)
    with engine.begin() as connection:
        rows.serve(connection, "ice", "snow")
    yield engine
    engine.dispose()


def night(folder: Path, name: str, *lines: str) -> Path:
    path = folder / name
    path.write_text(HEADER + "".join(lines), encoding="utf-8")
    return path


def canvas(**reading: object) -> Reading:
    return Reading(settings=Source(items={"17": "ice", "18": "snow"}), **reading)


def submissions(database: Engine) -> list[tuple[object, ...]]:
    with database.connect() as connection:
        found = connection.execute(
            text("""
                SELECT p.source_student_id, s.item_id, s.attempt, s.text, s.response_id,
                       s.response_id = p.student_key || ':' || right(s.response_id, 2) AS keyed
                FROM ingest.submission s JOIN pii.student p USING (student_key) ORDER BY 1, 2
            """)
        ).all()
    assert all(row.keyed for row in found)
    assert not any("student-" in row.response_id for row in found)
    return [tuple(row)[:4] for row in found]


def test_the_ledger_knows_a_student_by_pseudonym_only_and_an_answer_once(
    database: Engine, tmp_path: Path
) -> None:
    limits = IntakeSettings()
    first = submit_file(
        database, night(tmp_path, "a.csv", ANN, BOB), source="lms", limits=limits, reading=canvas()
    )
    assert (first.file_format, first.num_rows, first.num_new) == ("canvas_classic", 3, 3)
    again = submit_file(database, tmp_path / "a.csv", source="lms", limits=limits, reading=canvas())
    assert (again.num_new, again.batch_id) == (0, first.batch_id)
    later = night(tmp_path, "b.csv", ANN, BOB.replace(",,,0", ",a,0,0"), ANN.replace(",1,it", ",2,it"))
    second = submit_file(database, later, source="lms", limits=limits, reading=canvas())
    assert (second.num_rows, second.num_new, second.num_repeated, second.num_rejected) == (6, 3, 3, 0)
    assert submissions(database) == [
        ("student-901", "ice", 1, "it melts"),
        ("student-901", "ice", 2, "it melts"),
        ("student-901", "snow", 1, ""),
        ("student-901", "snow", 2, ""),
        ("student-902", "ice", 1, '=HYPERLINK("x")'),
        ("student-902", "snow", 1, "a"),
    ]


def test_another_answer_of_the_same_attempt_is_a_conflict_that_names_no_student(
    database: Engine, tmp_path: Path
) -> None:
    limits = IntakeSettings()
    submit_file(database, night(tmp_path, "a.csv", ANN), source="lms", limits=limits, reading=canvas())
    changed = night(tmp_path, "b.csv", ANN.replace("melts", "freezes"))
    report = submit_file(database, changed, source="lms", limits=limits, reading=canvas())
    assert (report.num_new, report.num_conflicts, report.num_repeated) == (0, 1, 1)
    (example,) = report.examples
    assert "student-901" not in example.detail
    assert "freezes" not in example.detail
    other = submit_file(database, changed, source="other", limits=limits, reading=canvas())
    assert (other.num_new, other.num_conflicts) == (2, 0)


def test_two_rejects_of_one_line_are_both_kept_and_written(database: Engine, tmp_path: Path) -> None:
    passed, told = Counter[str](), tmp_path / "rejects.csv"
    settings = Source(items={"17": "=unheard-of", "18": "unheard-of"})
    reading = Reading(settings=settings, rejects=told, on_passed_over=lambda name: passed.update([name]))
    path = night(tmp_path, "a.csv", ANN, BOB, "cut,off\n")
    report = submit_file(database, path, source="lms", limits=IntakeSettings(), reading=reading)
    assert (report.num_accepted, report.num_rejected, passed) == (0, 4, {})
    with told.open(encoding="utf-8", newline="") as stream:
        written = list(csv.DictReader(stream))
    assert [(row["line"], row["reason"]) for row in written] == [
        ("2", "unknown_item"),
        ("2", "unknown_item"),
        ("3", "unknown_item"),
        ("4", "wrong_columns"),
    ]
    with database.connect() as connection:
        kept = connection.execute(text("SELECT line, part FROM ingest.reject ORDER BY 1, 2")).all()
    assert [tuple(row) for row in kept] == [(2, 1), (2, 2), (3, 1), (4, 1)]


def test_a_dry_run_tells_and_keeps_nothing(database: Engine, tmp_path: Path) -> None:
    passed, told = Counter[str](), tmp_path / "rejects.csv"
    reading = Reading(
        settings=Source(items={"17": "ice"}), rejects=told, on_passed_over=lambda name: passed.update([name])
    )
    path = night(tmp_path, "a.csv", ANN, BOB, "cut,off\n")
    report = submit_file(
        database, path, source="lms", limits=IntakeSettings(), reading=reading, mode="dry_run"
    )
    assert (report.num_new, report.num_rejected, passed) == (2, 1, {"18": 1})
    assert told.read_text(encoding="utf-8").splitlines()[1:] == ["4,wrong_columns,2 columns instead of 11"]
    with database.connect() as connection:
        for table in ("ingest.batch", "ingest.submission", "pii.student"):
            assert connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one() == 0
