"""Each role does its work, and is refused what it must not do, by Postgres itself."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError

from db import intake, ledger, privacy, quarantine, roles
from db.ledger import LeasePolicy
from db.quarantine import Refusal
from db.session import make_engine
from tests import rows
from workers.report.schedule import run_morning
from workers.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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


#: A function that runs with the rights of its owner, hung on a table of one's own.
BORROWED = (
    "CREATE TEMP TABLE mine (n int);"
    " CREATE TRIGGER mine {when} ON mine FOR EACH ROW EXECUTE FUNCTION {which}()"
)

FORBIDDEN = [
    *(
        (role, BORROWED.format(when="BEFORE INSERT", which="grader.take_human_score"))
        for role in (roles.PSYCHOMETRICIAN, roles.BI)
    ),
    (roles.WORKER, BORROWED.format(when="AFTER DELETE", which="model.drop_cloud")),
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
    (roles.WORKER, "UPDATE score.human_score SET level = 2"),
    (roles.WORKER, "DELETE FROM score.read_request"),
    (roles.WORKER, "INSERT INTO model.item (item_id, prompt, language, rubric) VALUES ('x', '', '', '')"),
    (roles.WORKER, "INSERT INTO grader.human_scores (submission_id, level) VALUES (1, 1)"),
    (roles.GRADER, "DELETE FROM score.human_score"),
    (
        roles.GRADER,
        "INSERT INTO score.human_score (submission_id, trait, rater, level) VALUES (1, 't0', 'x', 1)",
    ),
    (roles.GRADER, "UPDATE grader.human_scores SET level = 2"),
    (roles.GRADER, "DELETE FROM grader.human_scores"),
    (roles.GRADER, "CREATE VIEW grader.mine AS SELECT 1"),
    (roles.PSYCHOMETRICIAN, "INSERT INTO grader.human_scores (submission_id, level) VALUES (1, 1)"),
    (roles.PSYCHOMETRICIAN, "UPDATE grader.human_scores SET level = 2"),
    *(
        (roles.BI, f"SELECT * FROM grader.{view}")
        for view in ("scores", "read_queue", "pairs", "human_scores", "score_origins", "rejects")
    ),
    (roles.BI, "INSERT INTO grader.human_scores (submission_id, level) VALUES (1, 1)"),
    *((role, "SELECT * FROM ops.run") for role in (roles.GRADER, roles.PSYCHOMETRICIAN, roles.BI)),
    (roles.PRIVACY, "SELECT * FROM ingest.submission"),
    (roles.PRIVACY, "SELECT * FROM grader.scores"),
    (roles.PRIVACY, "SELECT * FROM grader.read_queue"),
    # Payloads it reads: whose refused bytes are stands nowhere else. The rest of a case it does not.
    (roles.PRIVACY, "SELECT * FROM ingest.quarantine"),
    (roles.PRIVACY, "DELETE FROM ingest.quarantine"),
    (roles.PRIVACY, "INSERT INTO ingest.quarantine (door, reason, payload) VALUES ('task', 'x', 'x')"),
    (roles.PRIVACY, "UPDATE ingest.quarantine SET submission_id = NULL"),
    (roles.PRIVACY, "DELETE FROM score.audit"),
    (roles.PRIVACY, "UPDATE score.audit SET actor = 'nobody'"),
    (roles.PRIVACY, "INSERT INTO pii.student (source, source_student_id) VALUES ('lms', 'x')"),
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
        # A view of several tables cannot be changed in place, whoever asks.
        with pytest.raises(
            DBAPIError, match=r"permission denied|must be owner|cannot (update|delete from) view"
        ):
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


def test_a_grader_gives_a_score_under_the_own_name_and_it_counts(database: Engine) -> None:
    with database.connect() as connection:
        me = connection.execute(text("SELECT session_user")).scalar_one()
        become(connection, roles.GRADER)
        connection.execute(
            text("INSERT INTO grader.human_scores (source, response_id, level) VALUES ('lms', 'r1', 2)")
        )
        given = connection.execute(text("SELECT level, given_by, rater FROM grader.scores")).one()
    assert tuple(given) == (2, "human", me)


def test_the_worker_draws_reads_and_writes_the_page_at_night(
    database: Engine, database_url: str, tmp_path: Path
) -> None:
    worker = make_engine(database_url)
    event.listen(worker, "connect", lambda driver, _: driver.execute(f"SET ROLE {roles.WORKER.name}").close())
    event.listen(worker, "connect", lambda driver, _: driver.commit())
    settings = Settings(home={"path": tmp_path}, reads={"share": 1.0})
    path = run_morning(worker, settings, period="2026-01-01")
    worker.dispose()
    assert path.is_file()
    with database.connect() as connection:
        row = connection.execute(text("SELECT requested_by FROM score.read_request")).one()
    assert row.requested_by == "nightly"


def test_no_role_may_log_in_or_rise_and_who_has_none_sees_nothing(database: Engine) -> None:
    with database.connect() as connection:
        powers = connection.execute(
            text("""
                SELECT rolname FROM pg_roles WHERE rolname LIKE 'scorefold_%'
                  AND (rolcanlogin OR rolsuper OR rolcreaterole OR rolcreatedb OR rolbypassrls
                       OR rolreplication)
            """)
        ).all()
        assert powers == []
        seen = connection.execute(
            text("""
                SELECT n.nspname || '.' || c.relname
                FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                CROSS JOIN LATERAL aclexplode(c.relacl) a
                WHERE n.nspname IN ('ingest', 'score', 'model', 'pii', 'ops', 'grader') AND a.grantee = 0
            """)
        ).all()
        assert seen == []


def test_readers_read_their_views(database: Engine) -> None:
    for role, view in ((roles.GRADER, "scores"), (roles.PSYCHOMETRICIAN, "pairs"), (roles.BI, "agreement")):
        with database.connect() as connection:
            become(connection, role)
            connection.execute(text(f"SELECT * FROM grader.{view}"))


def test_privacy_forgets_a_student_and_the_bytes_in_quarantine(database: Engine) -> None:
    with database.begin() as connection:
        row = replace(rows.incoming(9, "r9"), student_id="s9")
        intake.accept_events(connection, [("lms", row)])
        refused = Refusal("stream", "conflict", "", b'{"source": "lms", "student_id": "s9"}')
        quarantine.keep(connection, [refused])
        become(connection, roles.PRIVACY)
        erasure = privacy.forget(connection, "s9", source="lms", actor="test")
    assert erasure is not None
    assert erasure.num_cases == 1
    with database.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM pii.student")).scalar_one() == 0


def test_privacy_ages_answers_and_refused_bytes(database: Engine) -> None:
    with database.begin() as connection:
        quarantine.keep(connection, [Refusal("stream", "conflict", "", b'{"source": "lms", "text": "x"}')])
        for table, column in (("submission", "received_at"), ("quarantine", "quarantined_at")):
            connection.execute(text(f"UPDATE ingest.{table} SET {column} = now() - interval '9 days'"))
    with database.begin() as connection:
        become(connection, roles.PRIVACY)
        erased = privacy.expire(connection, source="lms", keep_days=8, actor="test").num_submissions
        num_cases = privacy.expire_cases(connection, source="lms", keep_days=8, actor="test")
    assert (erased, num_cases) == (2, 1)


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
