"""What docs/graders.md says, run as it stands there: each question is one SELECT and finds what is there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from db import reading, reads
from db.session import make_engine
from tests import graded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, Engine

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "graders.md").read_text(encoding="utf-8")
#: Number of the question -> its SELECT.
QUESTIONS = {
    int(number): statement
    for number, statement in re.findall(r"### (\d+)\..*?```sql\n(.*?)```", DOCUMENT, re.DOTALL)
}


@pytest.fixture
def database(database_url: str) -> Iterator[Engine]:
    engine = make_engine(database_url)
    with engine.begin() as connection:
        graded.score_a_night(connection)
    yield engine
    engine.dispose()


@pytest.fixture
def ledger(database: Engine) -> Iterator[Connection]:
    with database.begin() as connection:
        yield connection


def ask(connection: Connection, number: int) -> list[dict[str, Any]]:
    return [dict(row._mapping) for row in connection.execute(text(QUESTIONS[number]))]


def test_every_question_is_one_select_on_one_view() -> None:
    assert list(QUESTIONS) == list(range(1, 11))
    for statement in QUESTIONS.values():
        assert statement.count(";") == 1
        assert len(re.findall(r"\b(?:FROM|JOIN) grader\.\w+", statement)) == 1
        assert len(re.findall(r"\b(?:FROM|JOIN)\b", statement)) == 1


def test_1_is_the_batch_done(ledger: Connection) -> None:
    (batch,) = ask(ledger, 1)
    assert (batch["num_accepted"], batch["num_scored"], batch["num_waiting"]) == (200, 200, 0)
    assert batch["finished_at"] is not None
    ledger.execute(text("UPDATE ingest.work SET state = 'ready' WHERE submission_id = 7"))
    (batch,) = ask(ledger, 1)
    assert (batch["num_scored"], batch["num_waiting"], batch["finished_at"]) == (199, 1, None)


def test_2_a_students_scores_and_who_gave_them(ledger: Connection) -> None:
    found = [(row["item_id"], row["level"], row["given_by"]) for row in ask(ledger, 2)]
    assert sorted(found) == [
        ("puddle", 1, "machine"),
        ("puddle", 2, "machine"),
        ("ramp", 0, "machine"),
        ("ramp", 1, "machine"),
    ]
    ledger.execute(text("INSERT INTO grader.human_scores (submission_id, level) VALUES (2, 0)"))
    changed = [row for row in ask(ledger, 2) if row["given_by"] == "human"]
    assert [(row["item_id"], row["level"]) for row in changed] == [("puddle", 0)]


def test_3_what_to_read_next_in_the_order_of_need(ledger: Connection) -> None:
    waiting = ask(ledger, 3)
    assert len(waiting) == 20
    assert {row["submission_id"] % 4 for row in waiting} == {0}
    assert all(row["submission_id"] % 5 for row in waiting)
    assert [row["confidence"] for row in waiting] == sorted(row["confidence"] for row in waiting)
    assert reading.ask(ledger, 6, reason="appeal", actor="ann") == 1
    top = ask(ledger, 3)[0]
    assert (top["submission_id"], top["reason"], top["text"]) == (6, "appeal", "answer 6")
    ledger.execute(text("INSERT INTO grader.human_scores (submission_id, level) VALUES (6, 1)"))
    assert 6 not in {row["submission_id"] for row in ask(ledger, 3)}


def test_4_large_disagreements(ledger: Connection) -> None:
    found = ask(ledger, 4)
    assert found
    assert all(abs(row["machine_level"] - row["human_level"]) == 2 for row in found)
    expected = ledger.execute(
        text("""
            SELECT count(*) FROM score.human_score h JOIN score.machine_score m USING (submission_id, trait)
            WHERE m.role = 'champion' AND abs(h.level - m.level) = 2
              AND h.scored_at > now() - interval '7 days'
        """)
    ).scalar_one()
    assert len(found) == expected


def test_5_agreement_by_week_adds_up_to_the_whole(ledger: Connection) -> None:
    weeks = ask(ledger, 5)
    assert len({row["week"] for row in weeks}) >= 2
    assert all(row["week"].weekday() == 0 for row in weeks)
    whole = ledger.execute(
        text("SELECT sum(num_pairs) FROM grader.agreement WHERE item_id = 'puddle'")
    ).scalar_one()
    assert sum(row["num_pairs"] for row in weeks) == whole


def test_6_shares_show_levels_that_nobody_got(ledger: Connection) -> None:
    days = ask(ledger, 6)
    by_day: dict[object, list[dict[str, Any]]] = {}
    for row in days:
        by_day.setdefault(row["day"], []).append(row)
    assert len(by_day) >= 6
    for levels in by_day.values():
        assert [row["level"] for row in levels] == [0, 1, 2]
        assert sum(row["share"] for row in levels) == pytest.approx(1.0)
    ledger.execute(text("DELETE FROM score.machine_score WHERE level = 0"))
    assert {row["num_answers"] for row in ask(ledger, 6) if row["level"] == 0} == {0}


def test_7_condition_codes_until_a_person_gives_a_level(ledger: Connection) -> None:
    assert ask(ledger, 7) == [{"item_id": "ramp", "condition_code": "blank", "num_answers": 20}]
    ledger.execute(text("INSERT INTO grader.human_scores (submission_id, level) VALUES (9, 1)"))
    assert [row["num_answers"] for row in ask(ledger, 7)] == [19]


def test_8_which_model_gave_this_score(ledger: Connection) -> None:
    (origin,) = ask(ledger, 8)
    assert (origin["level"], origin["role"], origin["engine"]) == (1, "champion", "torch fp32")
    assert (origin["backbone"], origin["extractor_kind"]) == ("tiny", "item")


def test_9_what_the_shadow_would_change(ledger: Connection) -> None:
    (change,) = ask(ledger, 9)
    assert (change["item_id"], change["num_answers"], change["share_changed"]) == ("puddle", 100, 1.0)
    assert change["num_new_zeros"] == change["num_changed_by_two"] == len(range(2, 201, 6))


def test_10_which_merges_are_pending(ledger: Connection) -> None:
    assert ask(ledger, 10) == []
    number = graded.propose_a_merge(ledger)
    (pending,) = ask(ledger, 10)
    assert (pending["merge_proposal_id"], pending["state"]) == (number, "proposed")
    assert pending["items"] == ["puddle", "ramp"]
    assert pending["qwk_change"] == pytest.approx(-0.015)
    assert pending["worst_qwk_change"] == pytest.approx(-0.02)
    changes = ledger.execute(text("SELECT item_id, num_answers, share_changed FROM grader.merge_changes"))
    assert changes.all() == [("puddle", 100, 1.0)]
    ledger.execute(text("UPDATE model.merge_proposal SET state = 'rejected'"))
    assert ask(ledger, 10) == []


PURPOSES = ("first", "read_behind", "second", "adjudication", "appeal")


def test_a_stronger_purpose_counts_whenever_it_comes(ledger: Connection) -> None:
    give = text(
        "INSERT INTO grader.human_scores (submission_id, level, purpose) VALUES (:id, :level, :purpose)"
    )
    counts = text("SELECT level, human_purpose FROM grader.scores WHERE submission_id = :id")
    for id_, order in ((1, PURPOSES), (2, PURPOSES[::-1]), (3, PURPOSES[2:] + PURPOSES[:2])):
        seen = []
        for purpose in order:
            ledger.execute(give, {"id": id_, "level": PURPOSES.index(purpose) % 3, "purpose": purpose})
            seen.append(purpose)
            strongest = max(seen, key=PURPOSES.index)
            assert tuple(ledger.execute(counts, {"id": id_}).one()) == (
                PURPOSES.index(strongest) % 3,
                strongest,
            )
    ledger.execute(give, {"id": 4, "level": 2, "purpose": "training"})
    assert ledger.execute(counts, {"id": 4}).one().human_purpose is None


def test_the_documented_insert_gives_a_score_under_the_readers_name(ledger: Connection) -> None:
    (statement,) = re.findall(r"```sql\n(INSERT.*?)```", DOCUMENT, re.DOTALL)
    ledger.execute(text(statement))
    given = ledger.execute(text("SELECT * FROM grader.human_scores WHERE submission_id = 1")).one()
    me = ledger.execute(text("SELECT session_user")).scalar_one()
    assert (given.level, given.purpose, given.rater, given.trait) == (2, "first", me, "t0")


REFUSED = {
    "no such answer": ("(submission_id, level) VALUES (99999, 1)", "no such answer"),
    "no key at all": ("(level) VALUES (1)", "no such answer"),
    "no such trait": ("(submission_id, trait, level) VALUES (1, 'x', 1)", "has the traits t0"),
    "level too high": ("(submission_id, level) VALUES (1, 3)", "has the levels 0 to 2"),
    "level below 0": ("(submission_id, level) VALUES (1, -1)", "has the levels 0 to 2"),
    "neither": ("(submission_id) VALUES (1)", "either a level or a condition_code"),
    "both": ("(submission_id, level, condition_code) VALUES (1, 1, 'blank')", "either a level or"),
    "unknown code": ("(submission_id, condition_code) VALUES (1, 'odd')", "condition_code"),
    "unknown purpose": ("(submission_id, level, purpose) VALUES (1, 1, 'odd')", "purpose"),
    "another item": (
        "(submission_id, item_id, level) VALUES (1, 'puddle', 1)",
        "1 is response r001, .* ramp",
    ),
    "another response": ("(submission_id, response_id, level) VALUES (1, 'r002', 1)", "must agree"),
    "another source": ("(submission_id, source, level) VALUES (1, 'other', 1)", "must agree"),
    "another attempt": ("(submission_id, attempt, level) VALUES (1, 2, 1)", "must agree"),
    "another item than the response's": (
        "(source, response_id, item_id, level) VALUES ('lms', 'r001', 'puddle', 1)",
        "must agree",
    ),
    "half a level": ("(submission_id, level) VALUES (1, 1.5)", "level 1.5 is not a whole number"),
    "no rater": ("(submission_id, level, rater) VALUES (1, 1, ' ')", "rater is empty"),
    "given before": ("(submission_id, level, rater) VALUES (5, 1, 'ann')", "ann has read submission 5"),
}


@pytest.mark.parametrize(("given", "told"), REFUSED.values(), ids=REFUSED)
def test_a_score_that_cannot_be_is_refused_in_words(ledger: Connection, given: str, told: str) -> None:
    with pytest.raises(IntegrityError, match=told):
        ledger.execute(text(f"INSERT INTO grader.human_scores {given}"))


def test_names_that_agree_are_taken_and_the_rest_is_filled_in(ledger: Connection) -> None:
    given = ledger.execute(
        text("""
            INSERT INTO grader.human_scores (submission_id, source, item_id, level)
            VALUES (1, 'lms', 'ramp', 2.0)
            RETURNING source, response_id, attempt, item_id, level
        """)
    ).one()
    assert tuple(given) == ("lms", "r001", 1, "ramp", 2)


def test_a_score_by_the_senders_key_and_a_condition_code(ledger: Connection) -> None:
    ledger.execute(
        text("""
            INSERT INTO grader.human_scores (source, response_id, condition_code, rater, purpose)
            VALUES ('lms', 'r003', 'refused', 'bob', 'second')
        """)
    )
    found = ledger.execute(text("SELECT * FROM grader.scores WHERE response_id = 'r003'")).one()
    assert (found.level, found.condition_code, found.rater) == (None, "refused", "bob")


def quarantine_answer(connection: Connection, submission_id: int) -> None:
    """As if every attempt to score it had failed."""
    for statement in (
        "DELETE FROM score.machine_score WHERE submission_id = :id",
        "UPDATE ingest.work SET state = 'quarantined' WHERE submission_id = :id",
        "INSERT INTO ingest.quarantine (submission_id, door, reason) VALUES (:id, 'worker', 'crashed')",
    ):
        connection.execute(text(statement), {"id": submission_id})


WAITING = text("SELECT trait, reason, priority, text FROM grader.read_queue WHERE submission_id = :id")


def test_a_quarantined_answer_waits_for_a_person_until_one_has_read_it(ledger: Connection) -> None:
    quarantine_answer(ledger, 2)
    quarantine_answer(ledger, 6)
    assert ledger.execute(WAITING, {"id": 2}).all() == [("t0", "quarantined", 2, "answer 2")]
    assert [row["reason"] for row in ask(ledger, 3)[:3]] == ["quarantined", "quarantined", "low_confidence"]
    ledger.execute(text("INSERT INTO grader.human_scores (submission_id, level) VALUES (2, 1)"))
    ledger.execute(text("UPDATE ingest.quarantine SET resolved_at = now() WHERE submission_id = 6"))
    assert ledger.execute(WAITING, {"id": 2}).all() == []
    assert ledger.execute(WAITING, {"id": 6}).all() == []


def test_a_quarantined_answer_with_a_machine_score_does_not_wait_for_it(ledger: Connection) -> None:
    ledger.execute(
        text("INSERT INTO ingest.quarantine (submission_id, door, reason) VALUES (2, 'worker', 'crashed')")
    )
    assert ledger.execute(WAITING, {"id": 2}).all() == []


def test_a_human_score_stands_alone_where_no_machine_has_scored(ledger: Connection) -> None:
    quarantine_answer(ledger, 2)
    found = text("SELECT * FROM grader.scores WHERE submission_id = 2")
    assert ledger.execute(found).first() is None
    give = text(
        "INSERT INTO grader.human_scores (submission_id, level, purpose) VALUES (2, :level, :purpose)"
    )
    ledger.execute(give, {"level": 0, "purpose": "training"})
    assert ledger.execute(found).first() is None
    for level, purpose in ((2, "first"), (1, "appeal"), (0, "second")):
        ledger.execute(give, {"level": level, "purpose": purpose})
    score = ledger.execute(found).one()
    assert (score.level, score.given_by, score.human_purpose, score.trait) == (1, "human", "appeal", "t0")
    assert score.changed_at == score.read_at
    machine = ("machine_level", "probabilities", "confidence", "needs_review", "scorer_id", "engine")
    assert {score._mapping[name] for name in (*machine, "scored_at", "machine_score_id")} == {None}


def test_the_summary_of_a_batch_counts_what_the_machine_has_scored(ledger: Connection) -> None:
    quarantine_answer(ledger, 5)
    (before,) = [one for one in reads.summary(ledger, batch_ids=[1]) if one.item_id == "ramp"]
    ledger.execute(
        text("INSERT INTO grader.human_scores (submission_id, level, purpose) VALUES (5, 1, 'second')")
    )
    (after,) = [one for one in reads.summary(ledger, batch_ids=[1]) if one.item_id == "ramp"]
    assert (after, after.num_answers) == (before, 99)


def drawn(connection: Connection) -> set[int]:
    found = connection.execute(
        text("SELECT submission_id FROM score.read_request WHERE reason = 'read_behind'")
    )
    return {row.submission_id for row in found}


def test_the_draw_is_seeded_nested_and_never_twice(ledger: Connection) -> None:
    num_unread = 200 - 40
    num_small = reading.draw_read_behind(ledger, share=0.2, seed=7, actor="ann")
    small = drawn(ledger)
    assert num_small == len(small)
    assert 0.1 * num_unread < num_small < 0.3 * num_unread
    assert reading.draw_read_behind(ledger, share=0.2, seed=7, actor="ann") == 0
    reading.draw_read_behind(ledger, share=0.5, seed=7, actor="ann")
    assert small < drawn(ledger)
    assert all(number % 5 for number in drawn(ledger))
    ledger.execute(text("DELETE FROM score.read_request"))
    reading.draw_read_behind(ledger, share=0.2, seed=8, actor="ann")
    assert drawn(ledger) != small
    ledger.execute(text("DELETE FROM score.read_request"))
    reading.draw_read_behind(ledger, share=0.2, seed=7, actor="ann")
    assert drawn(ledger) == small


def test_a_large_difference_asks_for_a_second_read_until_there_is_one(ledger: Connection) -> None:
    asked = reading.ask_about_disagreements(ledger, actor="ann")
    waiting = "SELECT submission_id, trait FROM grader.read_queue WHERE reason = 'disagreement'"
    found = ledger.execute(text(waiting)).all()
    assert len(found) == asked > 0
    assert reading.ask_about_disagreements(ledger, actor="ann") == 0
    ledger.execute(
        text("INSERT INTO grader.human_scores (submission_id, level, purpose) VALUES (:id, 1, 'second')"),
        {"id": found[0].submission_id},
    )
    assert len(ledger.execute(text(waiting)).all()) == asked - 1
