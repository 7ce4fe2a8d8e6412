"""An exporter's list against the ledger: every kind of disagreement is named, agreement is silent."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from db import intake, ledger
from db.ledger import LeasePolicy
from db.session import make_engine
from scoring.errors import InvalidInputError
from tests import rows
from workers.importers import answers, files
from workers.reconcile import reconcile
from workers.settings import IntakeSettings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Engine

    from db.reconcile import Reconciliation

LIMITS = IntakeSettings()


@pytest.fixture
def database(database_url: str) -> Iterator[Engine]:
    engine = make_engine(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def scorers(database: Engine) -> dict[str, int]:
    """Six answers in the ledger, the first four of them scored."""
    with database.begin() as connection:
        found = rows.serve(connection, "item-a", "item-b")
        records = [
            files.Record(n, {"response_id": f"r{n}", "item_id": "item-a", "text": f"answer {n}"})
            for n in range(1, 7)
        ]
        taken = [
            row
            for row in answers.submissions(records, max_text_chars=100)
            if isinstance(row, intake.IncomingRow)
        ]
        intake.accept_events(connection, [("lms", row) for row in taken])
        ids = [number for number, _ in ledger.take_due(connection, stale_s=0.0)][:4]
        claimed = ledger.claim(connection, ids, worker="w", policy=LeasePolicy())
        ledger.finish(connection, claimed.token, ids, rows.sheet(ids, found["item-a"]))
    return found


def compare(database: Engine, folder: Path, content: str) -> Reconciliation:
    manifest = folder / "list.csv"
    manifest.write_text(content)
    return reconcile(database, manifest, source="lms", limits=LIMITS)


def listing(*numbers: int) -> str:
    return "response_id,item_id,text\n" + "".join(f"r{n},item-a,answer {n}\n" for n in numbers)


def test_agreement_names_nothing(database: Engine, tmp_path: Path, scorers: dict[str, int]) -> None:
    found = compare(database, tmp_path, listing(1, 2, 3, 4, 5, 6))
    assert found.findings == ()
    assert (found.num_listed, found.num_scored, found.num_waiting, found.num_unlisted) == (6, 4, 2, 0)


def test_every_disagreement_is_named(database: Engine, tmp_path: Path, scorers: dict[str, int]) -> None:
    with database.begin() as connection:
        connection.execute(
            text("""
                DELETE FROM score.machine_score
                WHERE submission_id = (SELECT min(submission_id) FROM ingest.work)
            """)
        )
        connection.execute(
            text("""
                INSERT INTO score.machine_score (submission_id, trait, scorer_id, role, level, engine)
                SELECT submission_id, 't0', :rival, 'champion', 0, 'test' FROM ingest.submission
                WHERE response_id = 'r2'
            """),
            {"rival": scorers["item-b"]},
        )
        connection.execute(
            text("""
                UPDATE ingest.work w SET state = 'quarantined', last_error = 'worker_vanished'
                FROM ingest.submission s WHERE s.submission_id = w.submission_id AND s.response_id = 'r6'
            """)
        )
    content = listing(1, 2, 6, 6, 9) + "r3,item-b,answer 3\nr4,item-a,something else\n"
    found = compare(database, tmp_path, content)
    assert [(one.kind, one.response_id, one.line) for one in found.findings] == [
        ("unscored", "r1", 2),
        ("scored_twice", "r2", 3),
        ("quarantined", "r6", 4),
        ("listed_twice", "r6", 5),
        ("missing", "r9", 6),
        ("conflict", "r3", 7),
        ("conflict", "r4", 8),
    ]
    assert (found.num_listed, found.num_quarantined, found.num_unlisted) == (6, 1, 1)


def test_what_the_list_does_not_say_is_not_compared(
    database: Engine, tmp_path: Path, scorers: dict[str, int]
) -> None:
    found = compare(database, tmp_path, "response_id\nr1\nr5\n")
    assert found.findings == ()
    assert (found.num_listed, found.num_unlisted) == (2, 4)
    assert compare(database, tmp_path, "response_id,attempt\nr1,2\n").findings[0].kind == "missing"


def test_other_sources_are_left_alone(database: Engine, tmp_path: Path, scorers: dict[str, int]) -> None:
    with database.begin() as connection:
        intake.accept_events(connection, [("other", replace(rows.incoming(1, "r1"), text="elsewhere"))])
    assert compare(database, tmp_path, listing(1, 2, 3, 4, 5, 6)).num_unlisted == 0


def test_a_list_with_a_hole_proves_nothing(database: Engine, tmp_path: Path, scorers: dict[str, int]) -> None:
    with pytest.raises(InvalidInputError, match="line 3"):
        compare(database, tmp_path, "response_id,attempt\nr1,1\n,1\n")
