"""Erasure on a real Postgres: a student leaves nothing behind but counts, and others lose nothing."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from db import intake, privacy, quarantine
from db.quarantine import Refusal
from db.session import make_engine
from scoring.errors import InvalidInputError
from tests import rows
from workers.privacy import Retained, retain
from workers.quarantine import retry
from workers.settings import IntakeSettings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Connection, Engine

STUDENT = "Pippa-4711"
TABLES = (
    *("ingest.submission", "ingest.work", "ingest.quarantine", "score.machine_score", "score.human_score"),
    *("score.read_request", "model.training_run_submission", "pii.student"),
)


@pytest.fixture
def database(database_url: str) -> Iterator[Engine]:
    """Two students of two sources, scored, read, queued, quarantined and trained on."""
    engine = make_engine(database_url)
    with engine.begin() as connection:
        scorers = rows.serve(connection, "item-a", "item-b")
    for source in ("lms", "other"):
        content = [
            rows.incoming(n, f"r{n}", f"answer {n}", item_id=("item-a", "item-b")[n % 2], student_id=student)
            for n, student in enumerate((STUDENT, STUDENT, "Quinn-4712"), start=1)
        ]
        with engine.begin() as connection:
            intake.accept_file(connection, rows.header(source=source), content)
    with engine.begin() as connection:
        for item_id, scorer_id in scorers.items():
            connection.execute(
                text("""
                    INSERT INTO score.machine_score (submission_id, trait, scorer_id, role, level, engine)
                    SELECT submission_id, 't0', :scorer_id, 'champion', 1, 'test'
                    FROM ingest.submission WHERE item_id = :item_id
                """),
                {"scorer_id": scorer_id, "item_id": item_id},
            )
        for statement in HANGING_ON:
            connection.execute(text(statement), {"scorer_id": scorers["item-b"]})
    yield engine
    engine.dispose()


HANGING_ON = (
    (
        "INSERT INTO score.human_score (submission_id, trait, rater, level)"
        " SELECT submission_id, 't0', 'ann', 1 FROM ingest.submission"
    ),
    (
        "INSERT INTO score.read_request (submission_id, trait, reason, requested_by)"
        " SELECT submission_id, 't0', 'appeal', 'ann' FROM ingest.submission"
    ),
    (
        "INSERT INTO ingest.quarantine (submission_id, door, reason)"
        " SELECT submission_id, 'worker', 'crashed' FROM ingest.submission"
    ),
    (
        "WITH run AS (INSERT INTO model.training_run (item_id, trigger, state)"
        "             VALUES ('item-b', 'manual', 'done') RETURNING training_run_id),"
        "     of_scorer AS (UPDATE model.scorer SET training_run_id = (SELECT training_run_id FROM run)"
        "                   WHERE scorer_id = :scorer_id)"
        " INSERT INTO model.training_run_submission (training_run_id, submission_id, fold)"
        " SELECT training_run_id, submission_id, 'train' FROM run, ingest.submission WHERE item_id = 'item-b'"
    ),
)


LMS_ALONE = {"empty": Retained(0, 0), "lms": Retained(2, 0)}


def counts(connection: Connection) -> dict[str, int]:
    return {table: connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one() for table in TABLES}


def everything(connection: Connection) -> str:
    """All rows of all tables as one text."""
    names = connection.execute(
        text("""
            SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables
            WHERE schemaname IN ('ingest', 'score', 'model', 'pii', 'ops')
        """)
    ).scalars()
    found = [
        connection.execute(text(f"SELECT coalesce(json_agg(t), '[]')::text FROM {name} t")).scalar_one()
        for name in names.all()
    ]
    return "\n".join(found)


def test_nothing_of_the_student_is_left_and_the_others_keep_theirs(database: Engine) -> None:
    with database.begin() as connection:
        before = counts(connection)
        texts = connection.execute(
            text("""
                SELECT s.response_id, s.source, p.student_key FROM ingest.submission s
                JOIN pii.student p USING (student_key) WHERE p.source_student_id = :student
            """),
            {"student": STUDENT},
        ).all()
        erasure = privacy.forget(connection, STUDENT, source=None, actor="officer")
    assert erasure is not None
    assert set(erasure.student_keys) == {row.student_key for row in texts}
    assert (erasure.num_submissions, erasure.num_machine_scores, erasure.num_human_scores) == (4, 4, 4)
    with database.connect() as connection:
        after = counts(connection)
        left = everything(connection)
    assert STUDENT not in left
    assert "Quinn-4712" in left
    expected = {**dict.fromkeys(TABLES, 2), "model.training_run_submission": 2, "pii.student": 2}
    assert before == {**dict.fromkeys(TABLES, 6), "model.training_run_submission": 4, "pii.student": 4}
    assert after == expected


def test_what_hangs_on_an_erased_answer_is_found_by_index(database: Engine) -> None:
    with database.begin() as connection:
        keys = connection.execute(
            text("""
                SELECT c.conrelid::regclass::text AS child, a.attname AS name
                FROM pg_constraint c JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
                WHERE c.contype = 'f' AND c.confrelid = 'ingest.submission'::regclass
            """)
        ).all()
        connection.execute(text("SET LOCAL enable_seqscan = off"))
        plans = {
            key.child: "\n".join(
                connection.execute(text(f"EXPLAIN DELETE FROM {key.child} WHERE {key.name} = 1")).scalars()
            )
            for key in keys
        }
    assert "ingest.quarantine" in plans
    assert [child for child, plan in plans.items() if "Seq Scan" in plan] == []


def test_the_audit_names_counts_and_scorers_and_no_id(database: Engine) -> None:
    with database.begin() as connection:
        erasure = privacy.forget(connection, STUDENT, source="lms", actor="officer")
        audit = connection.execute(
            text("SELECT * FROM score.audit WHERE action = 'forget' ORDER BY audit_id")
        ).one()
    assert erasure is not None
    assert [(one.item_id, one.alias) for one in erasure.scorers] == [("item-b", "champion")]
    assert [one.item_id for one in erasure.scorers_of_unknown_lineage] == ["item-a"]
    assert (audit.actor, audit.subject) == ("officer", str(erasure.student_keys[0]))
    assert audit.detail["num_submissions"] == 2
    assert audit.detail["scorer_ids"] == [one.scorer_id for one in erasure.scorers]
    assert STUDENT not in json.dumps(audit.detail) + audit.subject


def test_a_pseudonym_is_forgotten_too_and_only_once(database: Engine) -> None:
    with database.begin() as connection:
        key = connection.execute(
            text("SELECT student_key FROM pii.student WHERE source = 'lms' AND source_student_id = :student"),
            {"student": STUDENT},
        ).scalar_one()
        first = privacy.forget(connection, str(key), source=None, actor="officer")
    assert first is not None
    assert first.num_submissions == 2
    with database.begin() as connection:
        assert privacy.forget(connection, str(key), source=None, actor="officer") is None
        assert privacy.forget(connection, STUDENT, source="lms", actor="officer") is None
        again = privacy.forget(connection, STUDENT, source="other", actor="officer")
    assert again is not None


def event(student_id: object = STUDENT, **other: object) -> bytes:
    fields = {"version": 1, "source": "lms", "response_id": "e1", "item_id": "late", "text": "it melts"}
    return json.dumps({**fields, "student_id": student_id, **other}).encode()


def message(*events: bytes) -> bytes:
    """What a sender's Celery puts into the broker's list."""
    body = json.dumps([[], {"events": [json.loads(one) for one in events]}, {}]).encode()
    return json.dumps({"body": base64.b64encode(body).decode(), "headers": {"eta": "later"}}).encode()


def refuse(database: Engine, **payloads: bytes) -> dict[str, int]:
    """One case for each of the bytes; their numbers by name."""
    with database.begin() as connection:
        refusals = [
            Refusal("broker" if "broker" in name else "stream", name, f"response of {name}", payload)
            for name, payload in payloads.items()
        ]
        quarantine.keep(connection, refusals)
        return {case.reason: case.quarantine_id for case in quarantine.cases(connection) if case.payload}


def kept(database: Engine) -> set[str]:
    """The cases whose bytes still stand."""
    with database.connect() as connection:
        return {case.reason for case in quarantine.cases(connection, closed_too=True) if case.payload}


THEIRS = {
    "unknown_item": event(),
    "blanks_around": event(f" {STUDENT} "),
    "no_source": event(source=None),
    "several": json.dumps({"events": [json.loads(event("Quinn-4712")), json.loads(event())]}).encode(),
    "in_the_broker": message(event("Quinn-4712"), event()),
    "unsigned_conflict": event(None, response_id="r1", text="another answer", item_id="item-b"),
}
NOT_THEIRS = {
    "of_another": event("Quinn-4712", text=f"as {STUDENT} says"),
    "of_another_source": event(source="other"),
    "unsigned": event(None),
    "longer_id": b"no JSON: " + STUDENT.encode() + b"1",
}


def test_bytes_in_quarantine_that_name_the_student_are_erased_and_no_retry_brings_them_back(
    database: Engine,
) -> None:
    numbers = refuse(database, **THEIRS, **NOT_THEIRS)
    with database.begin() as connection:
        erasure = privacy.forget(connection, STUDENT, source="lms", actor="officer")
    assert erasure is not None
    assert (erasure.num_cases, erasure.cases_to_look_at) == (len(THEIRS), ())
    assert kept(database) == set(NOT_THEIRS)
    with database.connect() as connection:
        erased = quarantine.cases(connection, ids=[numbers[name] for name in THEIRS], closed_too=True)
        audit = connection.execute(text("SELECT detail FROM score.audit WHERE action = 'forget'")).one()
    assert {(case.payload, case.detail, case.resolution) for case in erased} == {
        (b"", "", "erased by officer: a student was forgotten")
    }
    assert audit.detail["num_cases"] == len(THEIRS)
    with pytest.raises(InvalidInputError, match="no open case"):
        retry(database, [numbers["unsigned_conflict"]], actor="ada", limits=IntakeSettings())


def test_what_would_be_erased_in_quarantine_is_counted_and_stays_without_a_commit(database: Engine) -> None:
    refuse(database, unknown_item=event())
    with database.connect() as connection:
        erasure = privacy.forget(connection, STUDENT, source=None, actor="officer")
    assert erasure is not None
    assert erasure.num_cases == 1
    assert kept(database) == {"unknown_item"}


def test_a_student_of_whom_quarantine_alone_knows_is_forgotten_too(database: Engine) -> None:
    refuse(database, unknown_item=event("Zoë-9"), number=event(4713))
    for student in ("Zoë-9", "4713"):
        with database.begin() as connection:
            erasure = privacy.forget(connection, student, source=None, actor="officer")
        assert erasure is not None
        assert (erasure.num_submissions, erasure.num_cases, erasure.student_keys) == (0, 1, ())
        with database.begin() as connection:
            assert privacy.forget(connection, student, source=None, actor="officer") is None
    with database.connect() as connection:
        audit = connection.execute(
            text("SELECT subject, detail FROM score.audit WHERE action = 'forget'")
        ).all()
    assert [(row.subject, row.detail["num_cases"]) for row in audit] == [("quarantine", 1)] * 2


def test_a_pseudonym_erases_the_bytes_that_name_its_student_in_its_source(database: Engine) -> None:
    refuse(database, here=event(), elsewhere=event(source="other"))
    with database.begin() as connection:
        key = connection.execute(
            text("SELECT student_key FROM pii.student WHERE source = 'lms' AND source_student_id = :student"),
            {"student": STUDENT},
        ).scalar_one()
        assert privacy.forget(connection, str(key), source=None, actor="officer") is not None
    assert kept(database) == {"elsewhere"}


def test_bytes_that_do_not_say_whose_they_are_are_named_and_left_to_a_person(database: Engine) -> None:
    unclear = {
        "not_json": b"\xff student " + STUDENT.encode() + b", it melts",
        "cut": event("Zoë-9")[:-1],
        "unsigned": event(None, student=STUDENT),
        "in_the_broker": message(event(None, text=STUDENT)),
    }
    numbers = refuse(database, **unclear)
    with database.begin() as connection:
        erasure = privacy.forget(connection, STUDENT, source=None, actor="officer")
    with database.begin() as connection:
        other = privacy.forget(connection, "Zoë-9", source=None, actor="officer")
    assert erasure is not None
    assert other is not None
    assert set(erasure.cases_to_look_at) == {numbers[name] for name in unclear if name != "cut"}
    assert (other.num_cases, other.cases_to_look_at) == (0, (numbers["cut"],))
    assert kept(database) == set(unclear)


def test_retention_erases_old_bytes_of_the_sources_with_a_policy(database: Engine, tmp_path: Path) -> None:
    payloads = {"old": event(), "several": message(event()), "other": event(source="other"), "junk": b"x"}
    refuse(database, **payloads)
    with database.begin() as connection:
        connection.execute(text("UPDATE ingest.quarantine SET quarantined_at = now() - interval '91 days'"))
    refuse(database, young=event("Quinn-4712"))
    policy = sources(tmp_path, "[lms]\nkeep_days = 90\n[other]\n")
    assert retain(database, policy, actor="timer", dry_run=True) == {"lms": Retained(0, 2)}
    assert kept(database) == {*payloads, "young"}
    assert retain(database, policy, actor="timer") == {"lms": Retained(0, 2)}
    assert kept(database) == {"other", "junk", "young"}
    with database.connect() as connection:
        audit = connection.execute(
            text("SELECT subject, detail FROM score.audit WHERE action = 'expire'")
        ).one()
    assert (audit.subject, audit.detail) == ("source lms", {"num_cases": 2})
    assert retain(database, policy, actor="timer") == {"lms": Retained(0, 0)}


def sources(folder: Path, content: str) -> Path:
    path = folder / "sources.toml"
    path.write_text(content, encoding="utf-8")
    return path


def test_retention_erases_what_is_too_old_of_the_sources_with_a_policy(
    database: Engine, tmp_path: Path
) -> None:
    with database.begin() as connection:
        for table, column in (("ingest.submission", "received_at"), ("pii.student", "created_at")):
            connection.execute(text(f"UPDATE {table} SET {column} = now() - interval '100 days'"))
        connection.execute(
            text(
                "UPDATE ingest.submission SET received_at = now() WHERE source = 'lms' AND response_id = 'r1'"
            )
        )
    policy = sources(tmp_path, "[lms]\nkeep_days = 90\n[other]\n[empty]\nkeep_days = 1\n")
    assert retain(database, policy, actor="timer", dry_run=True) == LMS_ALONE
    with database.connect() as connection:
        assert counts(connection)["ingest.submission"] == 6
    assert retain(database, policy, actor="timer") == LMS_ALONE
    with database.connect() as connection:
        left = counts(connection)
        students = connection.execute(
            text("SELECT source, source_student_id FROM pii.student ORDER BY 1, 2")
        ).all()
        audit = connection.execute(
            text("SELECT subject, detail FROM score.audit WHERE action = 'expire'")
        ).one()
    assert (left["ingest.submission"], left["score.machine_score"]) == (4, 4)
    assert [tuple(row) for row in students] == [
        ("lms", STUDENT),
        ("other", STUDENT),
        ("other", "Quinn-4712"),
    ]
    assert (audit.subject, audit.detail["num_submissions"]) == ("source lms", 2)
    assert retain(database, policy, actor="timer") == {**LMS_ALONE, "lms": Retained(0, 0)}


def test_a_policy_without_sense_erases_nothing(database: Engine, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"\[lms\] keep_days"):
        retain(database, sources(tmp_path, "[lms]\nkeep_days = 0\n"), actor="timer")
