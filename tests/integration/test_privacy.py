"""Erasure on a real Postgres: a student leaves nothing behind but counts, and others lose nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from db import intake, privacy
from db.session import make_engine
from scoring.errors import InvalidInputError
from tests import rows
from workers.privacy import retain

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
    assert retain(database, policy, actor="timer", dry_run=True) == {"empty": 0, "lms": 2}
    with database.connect() as connection:
        assert counts(connection)["ingest.submission"] == 6
    assert retain(database, policy, actor="timer") == {"empty": 0, "lms": 2}
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
    assert retain(database, policy, actor="timer") == {"empty": 0, "lms": 0}


def test_a_policy_without_sense_erases_nothing(database: Engine, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"\[lms\] keep_days"):
        retain(database, sources(tmp_path, "[lms]\nkeep_days = 0\n"), actor="timer")
