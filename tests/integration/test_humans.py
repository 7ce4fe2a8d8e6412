"""Human scores into a real Postgres by what an office knows: a student of the platform, and an item."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from db import humans
from db.humans import HumanRow
from db.session import make_engine
from scoring.errors import DatabaseUnavailableError, InvalidInputError
from tests import rows
from workers.importers.sources import Source
from workers.intake import HumanOrigin, Reading, import_human_scores, submit_file
from workers.settings import IntakeSettings
from workers.writer import database_errors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Engine

    from db.humans import HumanReport

CANVAS = (
    "name,id,section,section_id,submitted,attempt,17: Why?,1.0,18: How?,1.0\n"
    "A,901,1,1,2026-03-01 08:30:00 UTC,1,ice melts,0,heat,0\n"
    "A,901,1,1,2026-03-02 08:30:00 UTC,2,it melts,0,,\n"
    "B,902,1,1,2026-03-01 08:30:00 UTC,1,snow,0,warm,0\n"
)


@pytest.fixture
def database(database_url: str, tmp_path: Path) -> Iterator[Engine]:
    engine = make_engine(database_url)
    with engine.begin() as connection:
        rows.serve(connection, "ice", "heat")
    export = tmp_path / "canvas.csv"
    export.write_text(CANVAS, encoding="utf-8")
    reading = Reading(settings=Source(items={"17": "ice", "18": "heat"}))
    report = submit_file(engine, export, source="canvas", limits=IntakeSettings(), reading=reading)
    assert report.num_new == 5
    yield engine
    engine.dispose()


def take_in(database: Engine, path: Path, content: str, *, source: str = "canvas") -> HumanReport:
    path.write_text(content, encoding="utf-8")
    origin = HumanOrigin(source, rater="ada", purpose="first")
    return import_human_scores(database, path, origin=origin, limits=IntakeSettings())


def given(database: Engine) -> set[tuple[object, ...]]:
    with database.connect() as connection:
        found = connection.execute(
            text("""
                SELECT p.source_student_id, s.item_id, s.attempt, h.level
                FROM score.human_score h JOIN ingest.submission s USING (submission_id)
                JOIN pii.student p USING (student_key)
            """)
        )
        return {tuple(row) for row in found}


def test_scores_by_student_and_item_find_their_answers(database: Engine, tmp_path: Path) -> None:
    content = "student_id,item_id,attempt,score\n901,ice,1,2\n901,ice,2,1\n901,heat,,0\n902,ice,1,1\n"
    report = take_in(database, tmp_path / "human.csv", content)
    assert (report.num_new, report.num_rejected) == (4, 0)
    assert given(database) == {("901", "ice", 1, 2), ("901", "ice", 2, 1), ("901", "heat", 1, 0)} | {
        ("902", "ice", 1, 1)
    }
    again = take_in(database, tmp_path / "human.csv", content)
    assert (again.num_new, again.num_repeated) == (0, 4)


def test_json_lines_may_name_them_too(database: Engine, tmp_path: Path) -> None:
    report = take_in(
        database, tmp_path / "human.jsonl", '{"student_id": 902, "item_id": "ice", "score": 1}\n'
    )
    assert (report.num_new, given(database)) == (1, {("902", "ice", 1, 1)})


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("903,ice,1,1", "unknown_submission"),
        ("901,snow,1,1", "unknown_submission"),
        ("901,heat,2,1", "unknown_submission"),
        ("901,ice,1,3", "level_out_of_range"),
        (",ice,1,1", "student_id_missing"),
    ],
)
def test_what_names_no_answer_is_refused_without_naming_the_student(
    database: Engine, tmp_path: Path, row: str, reason: str
) -> None:
    content = f"student_id,item_id,attempt,score\n{row}\n902,heat,1,1\n"
    report = take_in(database, tmp_path / "human.csv", content)
    (refused,) = report.examples
    assert (refused.line, refused.reason, report.num_new) == (2, reason, 1)
    assert "901" not in refused.detail
    assert "903" not in refused.detail


def test_a_student_of_another_source_is_another_student(database: Engine, tmp_path: Path) -> None:
    content = "student_id,item_id,score\n901,ice,1\n"
    report = take_in(database, tmp_path / "human.csv", content, source="other")
    assert [row.reason for row in report.examples] == ["unknown_submission"]
    reading = Reading(settings=Source(items={"17": "ice", "18": "heat"}))
    submit_file(database, tmp_path / "canvas.csv", source="other", limits=IntakeSettings(), reading=reading)
    assert take_in(database, tmp_path / "human.csv", content).num_new == 1
    with database.connect() as connection:
        sources = connection.execute(text("SELECT source FROM grader.human_scores")).scalars().all()
    assert sources == ["canvas"]


def test_two_answers_to_one_item_are_not_guessed_between(database: Engine, tmp_path: Path) -> None:
    second = tmp_path / "retake.csv"
    second.write_text(CANVAS.replace("17: Why?", "99: Why?"), encoding="utf-8")
    reading = Reading(settings=Source(items={"99": "ice"}))
    submit_file(database, second, source="canvas", limits=IntakeSettings(), reading=reading)
    report = take_in(database, tmp_path / "human.csv", "student_id,item_id,score\n901,ice,1\n901,heat,1\n")
    (refused,) = report.examples
    assert (refused.reason, report.num_new) == ("ambiguous", 1)
    assert "2 answers of this student to item ice" in refused.detail


def answers_of(database: Engine, student: str) -> dict[str, str]:
    """The response to each item."""
    with database.connect() as connection:
        found = connection.execute(
            text("""
                SELECT s.item_id, s.response_id
                FROM ingest.submission s JOIN pii.student p USING (student_key)
                WHERE p.source_student_id = :student AND s.attempt = 1
            """),
            {"student": student},
        )
        return {row.item_id: row.response_id for row in found}


@pytest.mark.parametrize(
    ("names", "told"), [("901,heat", "is to item ice, not heat"), ("902,ice", "by another student")]
)
def test_a_response_that_is_not_the_named_students_or_items_is_refused(
    database: Engine, tmp_path: Path, names: str, told: str
) -> None:
    response = answers_of(database, "901")["ice"]
    content = f"response_id,student_id,item_id,score\n{response},{names},1\n"
    report = take_in(database, tmp_path / "human.csv", content)
    (refused,) = report.examples
    assert (refused.reason, report.num_new) == ("another_answer", 0)
    assert told in refused.detail
    assert "90" not in refused.detail.replace(response, "")
    for agreeing in ("901,ice", ",ice", "901,", ","):
        content = f"response_id,student_id,item_id,score\n{response},{agreeing},1\n"
        assert take_in(database, tmp_path / "human.csv", content).num_rejected == 0
    assert given(database) == {("901", "ice", 1, 1)}


def test_scores_by_nobody_are_refused(database: Engine, tmp_path: Path) -> None:
    path = tmp_path / "human.csv"
    path.write_text("student_id,item_id,score\n901,ice,1\n", encoding="utf-8")
    for rater in ("", " "):
        with pytest.raises(InvalidInputError, match="the rater is empty"):
            import_human_scores(
                database, path, origin=HumanOrigin("canvas", rater, "first"), limits=IntakeSettings()
            )


def test_a_file_that_names_neither_is_refused(database: Engine, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"missing column\(s\) response_id"):
        take_in(database, tmp_path / "human.csv", "student_id,score\n901,1\n")


def test_a_server_that_goes_away_while_rows_are_sent_is_one_clear_error(database: Engine) -> None:
    """The driver's own errors do not pass the border."""

    def sent() -> Iterator[HumanRow]:
        yield HumanRow(1, "r1", 1, None, 1)
        with database.connect() as other:
            other.execute(
                text("""
                    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                    WHERE datname = current_database() AND pid <> pg_backend_pid()
                """)
            )
        for number in range(100_000):
            yield HumanRow(number, "r1", 1, None, 1)

    connection = database.connect()
    with pytest.raises(DatabaseUnavailableError) as told, database_errors():
        humans.accept_human_scores(connection, sent(), source="canvas", rater="ada")
    assert isinstance(told.value.__cause__, OperationalError)
    connection.invalidate()
    connection.close()
