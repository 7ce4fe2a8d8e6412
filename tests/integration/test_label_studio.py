"""Label Studio's export into the ledger: each annotator a rater, cancelled ones none, faults one by one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from db.session import make_engine
from scoring.errors import InvalidInputError
from tests import graded
from workers.intake import HumanOrigin, import_human_scores
from workers.settings import IntakeSettings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Engine

    from db.humans import HumanReport


@pytest.fixture
def database(database_url: str) -> Iterator[Engine]:
    engine = make_engine(database_url)
    with engine.begin() as connection:
        graded.score_a_night(connection, num_answers=20)
    yield engine
    engine.dispose()


def choice(level: object, *, name: str = "score") -> dict[str, Any]:
    return {"from_name": name, "to_name": "text", "type": "choices", "value": {"choices": [level]}}


def task(
    response_id: object, *annotations: tuple[object, list[dict[str, Any]]], **fields: Any
) -> dict[str, Any]:
    return {
        "id": 1,
        "data": {"response_id": response_id, "text": "answer"},
        "annotations": [
            {"completed_by": rater, "was_cancelled": False, "result": results}
            for rater, results in annotations
        ],
        "predictions": [{"result": [choice("2")]}],
        **fields,
    }


def load(database: Engine, folder: Path, content: object) -> HumanReport:
    path = folder / "project.json"
    path.write_text(json.dumps(content), encoding="utf-8-sig")
    origin = HumanOrigin("lms", "nobody", "second")
    return import_human_scores(database, path, origin=origin, limits=IntakeSettings())


def test_annotators_are_raters_and_what_is_no_score_is_passed_over(database: Engine, tmp_path: Path) -> None:
    rating = {"from_name": "t0", "type": "rating", "value": {"rating": 2}}
    number = {"from_name": "score", "type": "number", "value": {"number": 0}}
    comment = {"from_name": "why", "type": "textarea", "value": {"text": ["unsure"]}}
    cancelled = {"completed_by": 9, "was_cancelled": True, "result": [choice("2")]}
    project = [
        task("r001", (3, [choice("1"), comment]), ({"id": 4, "email": "bo@x.org"}, [rating])),
        task("r002", (3, [number])),
        task("r003", annotations=[cancelled]),
        task("r004", (3, [choice("excellent")])),
        task("absent", (3, [choice("1")])),
        task("r006", (3, [choice("7")])),
        task("r007", (None, [choice("1")])),
        task(None, (3, [choice("1")])),
    ]
    report = load(database, tmp_path, project)
    assert (report.num_new, report.num_repeated, report.num_rejected) == (3, 0, 5)
    assert [(row.line, row.reason) for row in report.examples] == [
        (4, "score_invalid"),
        (5, "unknown_submission"),
        (6, "level_out_of_range"),
        (7, "completed_by_missing"),
        (8, "response_id_missing"),
    ]
    with database.connect() as connection:
        found = connection.execute(
            text("""
                SELECT response_id, rater, level FROM grader.human_scores
                WHERE purpose = 'second' ORDER BY 1, 2
            """)
        ).all()
    assert [tuple(row) for row in found] == [("r001", "3", 1), ("r001", "bo@x.org", 2), ("r002", "3", 0)]
    again = load(database, tmp_path, project)
    assert (again.num_new, again.num_repeated) == (0, 3)
    changed = load(database, tmp_path, [task("r001", (3, [choice("0")]))])
    assert [(row.reason, row.line) for row in changed.examples] == [("conflict", 1)]


def test_a_task_that_names_another_item_or_student_than_the_answer_has_is_refused(
    database: Engine, tmp_path: Path
) -> None:
    with database.connect() as connection:
        (item, student) = connection.execute(
            text("""
                SELECT s.item_id, p.source_student_id
                FROM ingest.submission s LEFT JOIN pii.student p USING (student_key)
                WHERE s.response_id = 'r001'
            """)
        ).one()
    right = {"response_id": "r001", "item_id": item} | ({"student_id": student} if student else {})
    named = [right, right | {"item_id": "nowhere"}, right | {"student_id": "nobody"}]
    report = load(database, tmp_path, [task("r001", (3, [choice("1")]), data=data) for data in named])
    assert (report.num_new, report.num_rejected) == (1, 2)
    assert [row.line for row in report.examples] == [2, 3]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ([{"response_id": "r1", "score": 1}], "not of tasks with annotations"),
        ([1], "not of tasks with annotations"),
        ([], "has a header and no rows"),
    ],
)
def test_another_array_is_refused(database: Engine, tmp_path: Path, content: object, told: str) -> None:
    with pytest.raises(InvalidInputError, match=told):
        load(database, tmp_path, content)


def test_a_cut_off_export_is_refused_by_its_line(database: Engine, tmp_path: Path) -> None:
    path = tmp_path / "project.json"
    path.write_text('[\n{"annotations": [')
    with pytest.raises(InvalidInputError, match=r"project\.json: line 2: "):
        import_human_scores(database, path, origin=HumanOrigin("lms", "x", "first"), limits=IntakeSettings())
