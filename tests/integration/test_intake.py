"""Files into the ledger on a real Postgres: idempotence, conflicts, rejects, all or nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from db import intake
from db.intake import RejectedRow
from db.session import make_engine
from tests import rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine


@pytest.fixture
def database(database_url: str) -> Iterator[Engine]:
    engine = make_engine(database_url)
    with engine.begin() as connection:
        rows.serve(connection, "item-a", "item-b")
    yield engine
    engine.dispose()


def test_the_same_file_again_adds_nothing_and_says_so(database: Engine) -> None:
    content = [rows.incoming(1, "r1"), rows.incoming(2, "r2"), RejectedRow(3, "not_json", "broken")]
    with database.begin() as connection:
        first = intake.accept_file(connection, rows.header(), content)
    with database.begin() as connection:
        second = intake.accept_file(connection, rows.header(), content)
        num_submissions = connection.execute(text("SELECT count(*) FROM ingest.submission")).scalar_one()
        num_work = connection.execute(text("SELECT count(*) FROM ingest.work")).scalar_one()
    assert (first.num_new, first.num_accepted, first.num_rejected) == (2, 2, 1)
    assert (second.num_new, second.num_accepted, second.num_rejected) == (0, 2, 1)
    assert second.batch_id == first.batch_id
    assert num_submissions == num_work == 2


def test_another_file_may_repeat_but_not_contradict(database: Engine) -> None:
    with database.begin() as connection:
        intake.accept_file(connection, rows.header("a"), [rows.incoming(1, "r1", "one")])
    with database.begin() as connection:
        report = intake.accept_file(
            connection,
            rows.header("b"),
            [
                rows.incoming(1, "r1", "one"),
                rows.incoming(2, "r1", "other"),
                rows.incoming(3, "r1", "one", attempt=2),
                rows.incoming(4, "r1", "one", item_id="item-b"),
            ],
        )
        kept = connection.execute(
            text("SELECT text FROM ingest.submission WHERE response_id = 'r1' AND attempt = 1")
        ).scalar_one()
    assert (report.num_new, report.num_repeated, report.num_conflicts) == (1, 1, 2)
    assert [(one.line, one.reason) for one in report.examples] == [(2, "conflict"), (4, "conflict")]
    assert kept == "one"


def test_the_same_key_from_another_source_is_another_answer(database: Engine) -> None:
    for source in ("north", "south"):
        with database.begin() as connection:
            report = intake.accept_file(
                connection, rows.header(source=source), [rows.incoming(1, "r1", source)]
            )
        assert report.num_new == 1


def test_unknown_items_are_refused_and_accepted_once_they_are_known(database: Engine) -> None:
    content = [rows.incoming(1, "r1", item_id="item-z"), rows.incoming(2, "r2")]
    with database.begin() as connection:
        report = intake.accept_file(connection, rows.header(), content)
    assert (report.num_new, report.num_rejected) == (1, 1)
    assert report.examples[0].reason == "unknown_item"
    with database.begin() as connection:
        rows.serve(connection, "item-z")
        report = intake.accept_file(connection, rows.header(), content)
    assert (report.num_new, report.num_accepted, report.num_rejected) == (1, 2, 0)


def test_a_file_is_all_or_nothing(database: Engine) -> None:
    def broken() -> Iterator[intake.IncomingRow]:
        yield rows.incoming(1, "r1")
        raise RuntimeError("the reader fails half-way")

    with pytest.raises(RuntimeError), database.begin() as connection:
        intake.accept_file(connection, rows.header(), broken())
    with database.connect() as connection:
        left = connection.execute(
            text("SELECT (SELECT count(*) FROM ingest.batch) + (SELECT count(*) FROM ingest.submission)")
        ).scalar_one()
    assert left == 0


def test_two_submitters_of_one_key_at_once_give_one_submission(database: Engine) -> None:
    with database.connect() as one, database.connect() as other:
        first = intake.accept_file(one, rows.header("a"), [rows.incoming(1, "r1", "mine")])
        one.commit()
        second = intake.accept_file(other, rows.header("b"), [rows.incoming(1, "r1", "yours")])
        other.commit()
    assert (first.num_new, second.num_new, second.num_conflicts) == (1, 0, 1)


def test_a_student_gets_one_pseudonym_that_says_nothing(database: Engine) -> None:
    from dataclasses import replace

    content = [
        replace(rows.incoming(1, "r1"), student_id="4711"),
        replace(rows.incoming(2, "r2"), student_id="4711"),
        replace(rows.incoming(3, "r3"), student_id="4712"),
    ]
    with database.begin() as connection:
        intake.accept_file(connection, rows.header(), content)
        keys = (
            connection.execute(text("SELECT student_key FROM ingest.submission ORDER BY response_id"))
            .scalars()
            .all()
        )
    assert keys[0] == keys[1] != keys[2]
    assert "4711" not in str(keys)


def test_erasing_a_student_erases_answers_and_work(database: Engine) -> None:
    from dataclasses import replace

    with database.begin() as connection:
        intake.accept_file(
            connection,
            rows.header(),
            [replace(rows.incoming(1, "r1"), student_id="4711"), rows.incoming(2, "r2")],
        )
        connection.execute(text("DELETE FROM pii.student WHERE source_student_id = '4711'"))
        left = (
            connection.execute(
                text("SELECT response_id FROM ingest.submission JOIN ingest.work USING (submission_id)")
            )
            .scalars()
            .all()
        )
    assert left == ["r2"]
