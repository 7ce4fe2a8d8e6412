"""Scores become rows, an absent Postgres is waited for, and foreign errors become ours."""

from __future__ import annotations

import numpy as np
import psycopg
import pytest
from sqlalchemy.exc import IntegrityError, InterfaceError, OperationalError, ProgrammingError

from db.registry import Serving
from scoring.errors import DatabaseUnavailableError, FatalError
from scoring.types import ConditionCode, ItemId, ItemSpec, Scores, Trait
from workers.writer import SchemaMismatchError, ScoreSheet, database_errors, patiently

ANSWER = "Gletscherkuss"


def fails(error: Exception) -> None:
    with database_errors():
        raise error


@pytest.mark.parametrize("kind", [OperationalError, InterfaceError])
def test_an_absent_postgres_is_told_in_its_own_first_line(kind):
    given = kind("SELECT :text", {"text": ANSWER}, psycopg.OperationalError(f"refused\nDETAIL: {ANSWER}"))
    with pytest.raises(DatabaseUnavailableError) as told:
        fails(given)
    assert str(told.value) == "Postgres does not answer: refused"
    assert told.value.__cause__ is given


def test_a_server_that_lets_nobody_in_is_not_told_as_absent():
    told = 'connection to server at "127.0.0.1", port 1 failed: FATAL:  database "nope" does not exist'
    with pytest.raises(DatabaseUnavailableError) as refused:
        fails(OperationalError("SELECT 1", {}, psycopg.OperationalError(told)))
    assert str(refused.value) == (
        'Postgres refuses the connection (database "nope" does not exist): look at SCOREFOLD_DATABASE__URL'
    )


def test_an_error_without_words_is_told_by_its_kind():
    with pytest.raises(DatabaseUnavailableError, match=r"^Postgres does not answer: AdminShutdown$"):
        fails(OperationalError("SELECT 1", {}, psycopg.errors.AdminShutdown("")))


def test_a_connection_that_broke_means_that_postgres_is_away():
    given = IntegrityError("SELECT 1", {}, psycopg.IntegrityError("x"), connection_invalidated=True)
    with pytest.raises(DatabaseUnavailableError, match="connection to Postgres broke"):
        fails(given)


@pytest.mark.parametrize(
    "missing",
    [psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn, psycopg.errors.InvalidSchemaName],
)
def test_missing_tables_end_the_process_and_blame_no_answer(missing):
    with pytest.raises(SchemaMismatchError, match=r'no "x"\): run `scorefold migrate`$') as told:
        fails(ProgrammingError("SELECT 1", {}, missing('no "x"\nLINE 1: ...')))
    assert isinstance(told.value, FatalError)
    assert told.value.exit_code == 78


@pytest.mark.parametrize(
    "error",
    [
        ProgrammingError("SELECT", {}, psycopg.errors.SyntaxError("near")),
        IntegrityError("INSERT", {}, psycopg.errors.UniqueViolation("twice")),
        KeyError("ours"),
    ],
)
def test_our_own_mistakes_are_let_through(error):
    with pytest.raises(type(error)):
        fails(error)


class Step:
    """Fails so many times, then succeeds."""

    def __init__(self, num_failures: int) -> None:
        self.num_failures = num_failures
        self.num_calls = 0

    def __call__(self) -> int:
        self.num_calls += 1
        if self.num_calls <= self.num_failures:
            raise OperationalError("SELECT 1", {}, psycopg.OperationalError("refused"))
        return self.num_calls


def test_a_step_is_repeated_until_postgres_answers():
    assert patiently(Step(2), give_up_after_s=30.0) == 3


def test_a_step_is_given_up_when_the_time_is_over():
    step = Step(1000)
    with pytest.raises(DatabaseUnavailableError):
        patiently(step, give_up_after_s=0.25)
    assert 1 < step.num_calls < 10


def test_a_stop_ends_the_wait_at_once():
    step = Step(1000)
    with pytest.raises(DatabaseUnavailableError):
        patiently(step, give_up_after_s=3600.0, stop=lambda: True)
    assert step.num_calls == 1


def test_a_programming_error_is_not_repeated():
    calls = []

    def step() -> None:
        calls.append(1)
        raise KeyError("ours")

    with pytest.raises(KeyError):
        patiently(step, give_up_after_s=30.0)
    assert calls == [1]


def serving(scorer_id: int, role: str = "champion") -> Serving:
    return Serving("ice", role, scorer_id, f"{scorer_id:064x}", "f" * 64)


def test_each_score_goes_to_the_answer_and_scorer_it_belongs_to():
    sheet = ScoreSheet("test/fp32")
    scores = Scores(
        answer=np.array([0, 0, 2], dtype=np.int32),
        trait=["content", "form", "overall"],
        level=np.array([1, 0, 2], dtype=np.int16),
        probabilities=[[0.25, 0.75], [1.0, 0.0], [0.0, 0.0, 1.0]],
        confidence=np.array([0.75, 1.0000001, -0.0001], dtype=np.float32),
        needs_review=np.array([True, False, False]),
    )
    engines = ["a/int8", "b/fp32", "c/fp32"]
    sheet.add_scores([70, 80, 90], [serving(7), serving(8), serving(9, "shadow")], scores, engines)
    columns = sheet.columns
    assert columns.submission_id == [70, 70, 90]
    assert columns.scorer_id == [7, 7, 9]
    assert columns.role == ["champion", "champion", "shadow"]
    assert columns.engine == ["a/int8", "a/int8", "c/fp32"]
    assert columns.level == [1, 0, 2]
    assert columns.confidence == [0.75, 1.0, 0.0]
    assert columns.needs_review == [True, False, False]
    assert {type(value) for value in (*columns.level, *columns.needs_review)} == {int, bool}
    assert columns.condition_code == [None] * 3


def test_a_condition_code_stands_for_every_trait_and_asks_for_a_person():
    sheet = ScoreSheet("test/fp32")
    item = ItemSpec(ItemId("ice"), "Why?", "en", (Trait("content", 2), Trait("form", 3)))
    sheet.add_condition(70, serving(7), item, ConditionCode.BLANK)
    columns = sheet.columns
    assert list(zip(columns.submission_id, columns.trait, columns.level, strict=True)) == [
        (70, "content", None),
        (70, "form", None),
    ]
    assert columns.condition_code == ["blank", "blank"]
    assert columns.needs_review == [True, True]
    assert columns.probabilities == columns.confidence == [None, None]
