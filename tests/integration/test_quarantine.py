"""Quarantine as a person settles it: list, show, retry, purge, on a real Postgres."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from db import ledger, quarantine, registry
from db.ledger import LeasePolicy
from db.session import make_engine
from scoring.errors import InvalidInputError
from tests import rows
from workers.doors.desk import Desk, Letter
from workers.quarantine import purge, retry
from workers.settings import IntakeSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

LIMITS = IntakeSettings()
POLICY = LeasePolicy(lease_s=30.0, backoff_s=0.0, max_solo_attempts=1)


@pytest.fixture
def database(database_url: str) -> Iterator[Engine]:
    engine = make_engine(database_url)
    with engine.begin() as connection:
        rows.serve(connection, "item-a")
    yield engine
    engine.dispose()


def open_cases(database: Engine) -> list[quarantine.Case]:
    with database.connect() as connection:
        return quarantine.cases(connection)


def quarantined_submission(database: Engine) -> int:
    with database.begin() as connection:
        ids = rows.accept(connection, 1)
    for attempt in (1, 2, 3):
        with database.begin() as connection:
            claimed = ledger.claim(connection, ids, worker="w", policy=POLICY, attempt=attempt)
            ledger.fail(connection, claimed, reason="error", detail="x", policy=POLICY)
    (case,) = open_cases(database)
    assert case.submission_id == ids[0]
    return ids[0]


def event(item_id: str) -> bytes:
    return json.dumps(
        {"version": 1, "source": "lms", "response_id": "e1", "item_id": item_id, "text": "it melts"}
    ).encode()


def test_a_submission_is_retried_as_if_for_the_first_time(database: Engine) -> None:
    submission_id = quarantined_submission(database)
    (case,) = open_cases(database)
    assert (case.response_id, case.reason) == ("f.csv-1", "error")
    assert retry(database, [case.quarantine_id], actor="ada", limits=LIMITS).num_released == 1
    with database.begin() as connection:
        assert ledger.claim(connection, [submission_id], worker="w", policy=POLICY).submission_ids == [
            submission_id
        ]
    assert open_cases(database) == []
    with database.connect() as connection:
        (closed,) = quarantine.cases(connection, closed_too=True)
    assert closed.resolution == "retried by ada"


def test_an_event_of_an_unknown_item_is_taken_once_the_item_is_loaded(database: Engine) -> None:
    Desk(database, LIMITS).take("stream", [Letter(event("item-late"), "here")])
    (case,) = open_cases(database)
    again = retry(database, [case.quarantine_id], actor="ada", limits=LIMITS)
    assert again.num_released == 0
    assert again.refused[0][0] == case.quarantine_id
    with database.begin() as connection:
        registry.save_items(connection, [rows.item("item-late")])
    assert retry(database, [case.quarantine_id], actor="ada", limits=LIMITS).num_released == 1
    assert open_cases(database) == []
    with database.connect() as connection:
        assert connection.execute(text("SELECT response_id FROM ingest.submission")).scalars().all() == ["e1"]


def test_a_conflict_stays_a_conflict(database: Engine) -> None:
    desk = Desk(database, LIMITS)
    desk.take("stream", [Letter(event("item-a"), "1")])
    desk.take("stream", [Letter(event("item-a").replace(b"melts", b"boils"), "2")])
    (case,) = open_cases(database)
    again = retry(database, [case.quarantine_id], actor="ada", limits=LIMITS)
    assert again.num_released == 0
    assert "other content" in again.refused[0][1]
    with database.connect() as connection:
        assert connection.execute(text("SELECT text FROM ingest.submission")).scalar_one() == "it melts"


def test_a_broken_message_can_only_be_purged_and_its_bytes_go(database: Engine) -> None:
    with database.begin() as connection:
        quarantine.keep(connection, [quarantine.Refusal("broker", "not_json", "", b"\xff secret")])
    (case,) = open_cases(database)
    assert retry(database, [case.quarantine_id], actor="ada", limits=LIMITS).refused
    assert purge(database, [case.quarantine_id], actor="ada", reason="a test of ours") == 1
    with database.connect() as connection:
        (closed,) = quarantine.cases(connection, closed_too=True)
    assert (closed.payload, closed.resolution) == (b"", "purged by ada: a test of ours")


def test_a_purged_submission_stays_visible_and_unscored(database: Engine) -> None:
    submission_id = quarantined_submission(database)
    (case,) = open_cases(database)
    purge(database, [case.quarantine_id], actor="ada", reason="not an answer")
    with database.connect() as connection:
        state = connection.execute(
            text("SELECT state FROM ingest.work WHERE submission_id = :id"), {"id": submission_id}
        ).scalar_one()
        (closed,) = quarantine.cases(connection, closed_too=True)
    assert (state, closed.resolution) == ("quarantined", "purged by ada: not an answer")


def test_an_unknown_number_undoes_the_whole_call(database: Engine) -> None:
    quarantined_submission(database)
    (case,) = open_cases(database)
    with pytest.raises(InvalidInputError, match="999"):
        retry(database, [case.quarantine_id, 999], actor="ada", limits=LIMITS)
    with pytest.raises(InvalidInputError, match="999"):
        purge(database, [case.quarantine_id, 999], actor="ada", reason="x")
    assert len(open_cases(database)) == 1
