"""Each role does its work, and is refused what it must not do, by Postgres itself."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from db import intake, ledger, privacy, quarantine, roles
from db.ledger import LeasePolicy
from db.quarantine import Refusal
from db.session import make_engine
from tests import rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, Engine


@pytest.fixture
def database(database_url: str) -> Iterator[Engine]:
    engine = make_engine(database_url)
    with engine.begin() as connection:
        scorers = rows.serve(connection, "item-a")
        answers = [rows.incoming(1, "r1"), rows.incoming(2, "r2")]
        intake.accept_events(connection, [("lms", answer) for answer in answers])
        connection.execute(
            text("""
                INSERT INTO score.machine_score (submission_id, trait, scorer_id, role, level, engine)
                SELECT min(submission_id), 't0', :scorer, 'champion', 1, 'test' FROM ingest.submission
            """),
            {"scorer": scorers["item-a"]},
        )
    yield engine
    engine.dispose()


def become(connection: Connection, role: roles.Role) -> None:
    connection.execute(text(f"SET LOCAL ROLE {role.name}"))


FORBIDDEN = [
    (roles.WORKER, "UPDATE score.machine_score SET level = 2"),
    (roles.WORKER, "DELETE FROM score.machine_score"),
    (roles.WORKER, "UPDATE ingest.submission SET text = 'better'"),
    (roles.WORKER, "DELETE FROM ingest.submission"),
    (roles.WORKER, "DELETE FROM ingest.work"),
    (roles.WORKER, "DELETE FROM ingest.quarantine"),
    (roles.WORKER, "DELETE FROM pii.student"),
    (
        roles.WORKER,
        "INSERT INTO score.human_score (submission_id, trait, rater, level) VALUES (1, 't0', 'x', 1)",
    ),
    (roles.WORKER, "UPDATE model.alias SET scorer_id = 1"),
    (roles.WORKER, "UPDATE score.audit SET actor = 'nobody'"),
    (roles.WORKER, "DROP TABLE ingest.work"),
    (roles.WORKER, "CREATE TABLE ingest.mine (n int)"),
    *(
        (role, f"SELECT * FROM {table}")
        for role in (roles.GRADER, roles.PSYCHOMETRICIAN, roles.BI)
        for table in (
            "ingest.submission",
            "pii.student",
            "score.machine_score",
            "model.scorer",
            "ingest.quarantine",
        )
    ),
    (roles.GRADER, "DELETE FROM score.human_score"),
    (roles.BI, "SELECT * FROM grader.scores"),
    (roles.BI, "SELECT * FROM grader.read_queue"),
    (roles.PRIVACY, "SELECT text FROM ingest.submission"),
    (roles.PRIVACY, "UPDATE score.machine_score SET level = 2"),
    (roles.PRIVACY, "UPDATE pii.student SET student_key = gen_random_uuid()"),
    (roles.PRIVACY, "INSERT INTO ingest.work (submission_id, item_id) VALUES (1, 'item-a')"),
]


@pytest.mark.parametrize(
    ("role", "statement"), FORBIDDEN, ids=[f"{r.name[10:]}: {s[:40]}" for r, s in FORBIDDEN]
)
def test_what_a_role_must_not_do_is_refused(database: Engine, role: roles.Role, statement: str) -> None:
    with database.connect() as connection:
        become(connection, role)
        with pytest.raises(ProgrammingError, match=r"permission denied|must be owner"):
            connection.execute(text(statement))


def test_a_worker_takes_in_claims_finishes_and_quarantines(database: Engine) -> None:
    policy = LeasePolicy(lease_s=30.0)
    with database.begin() as connection:
        become(connection, roles.WORKER)
        intake.accept_events(connection, [("lms", rows.incoming(1, "r3")), ("lms", rows.incoming(2, "r4"))])
    with database.begin() as connection:
        become(connection, roles.WORKER)
        intake.accept_file(connection, rows.header(), [rows.incoming(1, "r5")])
        due = [number for number, _ in ledger.take_due(connection, stale_s=0.0)]
        claimed = ledger.claim(connection, due, worker="w", policy=policy)
        assert ledger.renew(connection, [claimed.token], policy=policy) == {claimed.token}
        scorer = connection.execute(text("SELECT max(scorer_id) FROM model.scorer")).scalar_one()
        first = claimed.submission_ids[:1]
        assert ledger.finish(connection, claimed.token, first, rows.sheet(first, scorer)) == 1
        assert quarantine.keep(connection, [Refusal("stream", "not_json", "", b"x", "here")]) == 1
        assert ledger.sweep(connection, policy=policy).num_expired == 0


def test_readers_read_their_views(database: Engine) -> None:
    for role, view in ((roles.GRADER, "scores"), (roles.PSYCHOMETRICIAN, "pairs"), (roles.BI, "agreement")):
        with database.connect() as connection:
            become(connection, role)
            connection.execute(text(f"SELECT * FROM grader.{view}"))


def test_privacy_forgets_a_student_and_reads_no_answer(database: Engine) -> None:
    with database.begin() as connection:
        row = replace(rows.incoming(9, "r9"), student_id="s9")
        intake.accept_events(connection, [("lms", row)])
        become(connection, roles.PRIVACY)
        assert privacy.forget(connection, "s9", source="lms", actor="test") is not None
    with database.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM pii.student")).scalar_one() == 0


def test_aggregates_hold_neither_text_nor_pseudonym(database: Engine) -> None:
    with database.connect() as connection:
        columns = connection.execute(
            text("""
                SELECT column_name FROM information_schema.column_privileges
                WHERE grantee = 'scorefold_bi' AND table_schema = 'grader'
            """)
        ).scalars()
        found = set(columns)
    assert found
    assert not found & {"text", "student_key", "response_id", "submission_id", "prompt"}
