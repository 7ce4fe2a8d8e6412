"""The ledger protocol on a real Postgres: leases, fences, suspects, quarantine, sweeps."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from db import ledger, registry
from db.ledger import LeasePolicy
from db.session import make_engine
from scoring.errors import DatabaseUnavailableError
from tests import rows
from workers.consumer import open_ledger
from workers.settings import load_settings
from workers.writer import database_errors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, Engine

POLICY = LeasePolicy(lease_s=30.0, backoff_s=0.0, max_solo_attempts=2, suspect_group=3)


@pytest.fixture
def database(database_url: str) -> Iterator[Engine]:
    engine = make_engine(database_url, pool_size=6)
    yield engine
    engine.dispose()


@pytest.fixture
def scorer_id(database: Engine) -> int:
    with database.begin() as connection:
        return rows.serve(connection, "item-a")["item-a"]


@pytest.fixture
def ids(database: Engine, scorer_id: int) -> list[int]:
    with database.begin() as connection:
        return rows.accept(connection, 10)


def states(database: Engine) -> dict[str, int]:
    with database.connect() as connection:
        found = connection.execute(text("SELECT state, count(*) AS num FROM ingest.work GROUP BY 1"))
        return {row.state: row.num for row in found}


def num_scores(database: Engine) -> int:
    with database.connect() as connection:
        return int(connection.execute(text("SELECT count(*) FROM score.machine_score")).scalar_one())


def vanish(connection: Connection) -> None:
    """Make every lease look as if its worker had stopped renewing long ago."""
    connection.execute(text("UPDATE ingest.lease SET lease_until = now() - interval '1 second'"))


def test_a_claim_is_exclusive_and_a_finish_settles_it(
    database: Engine, ids: list[int], scorer_id: int
) -> None:
    with database.begin() as connection:
        first = ledger.claim(connection, ids[:6], worker="w1", policy=POLICY)
    with database.begin() as connection:
        second = ledger.claim(connection, ids, worker="w2", policy=POLICY)
    assert first.submission_ids == ids[:6]
    assert second.submission_ids == ids[6:]
    assert first.texts[0] == "answer 1"
    with database.begin() as connection:
        assert ledger.finish(connection, first.token, ids[:6], rows.sheet(ids[:6], scorer_id)) == 6
    assert states(database) == {"done": 6, "leased": 4}
    assert num_scores(database) == 6
    with database.connect() as connection:
        leases = connection.execute(text("SELECT token FROM ingest.lease")).scalars().all()
    assert leases == [second.token]


def test_many_workers_on_one_message_never_share_a_submission(database: Engine, ids: list[int]) -> None:
    def take(worker: int) -> list[int]:
        with database.begin() as connection:
            return ledger.claim(connection, ids, worker=f"w{worker}", policy=POLICY).submission_ids

    with ThreadPoolExecutor(6) as pool:
        taken = [number for part in pool.map(take, range(24)) for number in part]
    assert sorted(taken) == ids


def test_a_worker_whose_lease_was_taken_writes_nothing(
    database: Engine, ids: list[int], scorer_id: int
) -> None:
    with database.begin() as connection:
        frozen = ledger.claim(connection, ids, worker="frozen", policy=POLICY)
        vanish(connection)
        assert ledger.sweep(connection, policy=POLICY).num_expired == 10
    with database.begin() as connection:
        heir = ledger.claim(connection, ids, worker="heir", policy=POLICY, attempt=2)
    assert len(heir) == POLICY.suspect_group
    with database.begin() as connection:
        assert ledger.finish(connection, frozen.token, ids, rows.sheet(ids, scorer_id, level=2)) == 0
        assert ledger.renew(connection, [frozen.token, heir.token], policy=POLICY) == {heir.token}
    assert num_scores(database) == 0
    with database.begin() as connection:
        mine = heir.submission_ids
        assert ledger.finish(connection, heir.token, mine, rows.sheet(mine, scorer_id)) == 3
    with database.connect() as connection:
        levels = connection.execute(text("SELECT DISTINCT level FROM score.machine_score")).scalars().all()
    assert levels == [1]


def test_a_finish_of_what_is_done_adds_no_second_score(
    database: Engine, ids: list[int], scorer_id: int
) -> None:
    with database.begin() as connection:
        claimed = ledger.claim(connection, ids, worker="w", policy=POLICY)
    for expected in (10, 0):
        with database.begin() as connection:
            done = ledger.finish(connection, claimed.token, ids, rows.sheet(ids, scorer_id))
        assert done == expected
    assert num_scores(database) == 10


def test_attempts_count_at_claim_and_only_lonely_ones_lead_to_quarantine(
    database: Engine, ids: list[int]
) -> None:
    victim = ids[:1]
    for attempt in (1, 2, 3):
        with database.begin() as connection:
            assert len(ledger.claim(connection, victim, worker="w", policy=POLICY, attempt=attempt)) == 1
            vanish(connection)
            swept = ledger.sweep(connection, policy=POLICY)
        assert (swept.num_expired, swept.num_quarantined) == (1, 0)
    with database.begin() as connection:
        assert len(ledger.claim(connection, victim, worker="w", policy=POLICY, attempt=3)) == 1
        vanish(connection)
        assert ledger.sweep(connection, policy=POLICY).num_quarantined == 1
    with database.connect() as connection:
        row = connection.execute(text("SELECT * FROM ingest.quarantine")).one()
    assert (row.submission_id, row.door, row.reason) == (victim[0], "worker", "worker_vanished")
    assert states(database) == {"quarantined": 1, "ready": 9}


def test_a_worker_frozen_before_its_commit_loses_its_rows_with_its_lease(
    database: Engine, ids: list[int], database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCOREFOLD_DATABASE__URL", database_url)
    monkeypatch.setenv("SCOREFOLD_WORKER__LEASE_S", "1")
    frozen = open_ledger(load_settings())

    def claim_and_freeze() -> None:
        with database_errors(), frozen.begin() as connection:
            assert len(ledger.claim(connection, ids, worker="frozen", policy=POLICY)) == len(ids)
            assert num_claimed(database, ids) == 0, "its rows are locked while it has time left"
            deadline = time.monotonic() + 20
            while (num_taken := num_claimed(database, ids)) == 0 and time.monotonic() < deadline:
                time.sleep(0.1)
            assert num_taken == len(ids)

    with pytest.raises(DatabaseUnavailableError):
        claim_and_freeze()
    frozen.dispose()


def num_claimed(database: Engine, ids: list[int]) -> int:
    with database.begin() as connection:
        return len(ledger.claim(connection, ids, worker="another", policy=POLICY))


def test_fresh_claims_leave_suspects_out(database: Engine, ids: list[int]) -> None:
    with database.begin() as connection:
        failed = ledger.claim(connection, ids[:2], worker="w", policy=POLICY)
        ledger.fail(connection, failed, reason="error", detail="x", policy=POLICY)
    with database.begin() as connection:
        assert ledger.claim(connection, ids, worker="w", policy=POLICY).submission_ids == ids[2:]
        assert ledger.claim(connection, ids, worker="w", policy=POLICY, attempt=3).submission_ids == []
        group = ledger.claim(connection, ids, worker="w", policy=POLICY, attempt=2)
    assert group.submission_ids == ids[:2]


def test_a_claim_given_back_does_not_count(database: Engine, ids: list[int]) -> None:
    with database.begin() as connection:
        claimed = ledger.claim(connection, ids, worker="w", policy=POLICY)
        ledger.give_back(connection, claimed, reason="worker stopped")
    with database.begin() as connection:
        again = ledger.claim(connection, ids, worker="w", policy=POLICY)
        attempts = connection.execute(text("SELECT DISTINCT num_attempts FROM ingest.work")).scalars().all()
    assert again.submission_ids == ids
    assert attempts == [1]


def become_suspects(connection: Connection, ids: list[int]) -> None:
    """Two failed attempts; the next one is alone."""
    for attempt in (1, 2):
        failed = ledger.claim(connection, ids, worker="w", policy=POLICY, attempt=attempt)
        ledger.fail(connection, failed, reason="error", detail="x", policy=POLICY)


def solo_attempts(connection: Connection, submission_id: int) -> int:
    found = connection.execute(
        text("SELECT num_solo_attempts FROM ingest.work WHERE submission_id = :id"), {"id": submission_id}
    )
    return int(found.scalar_one())


@pytest.mark.parametrize("in_part", [False, True])
def test_a_suspect_given_back_was_not_tried_alone(database: Engine, ids: list[int], in_part: bool) -> None:
    victim = ids[:1]
    with database.begin() as connection:
        become_suspects(connection, victim)
        claimed = ledger.claim(connection, victim, worker="w", policy=POLICY, attempt=3)
        assert solo_attempts(connection, victim[0]) == 1
        if in_part:
            ledger.give_back_some(connection, claimed, victim, reason="no working scorer")
        else:
            ledger.give_back(connection, claimed, reason="worker stopped")
        assert solo_attempts(connection, victim[0]) == 0


def test_counts_of_attempts_stay_within_their_column(database: Engine, ids: list[int]) -> None:
    with database.begin() as connection:
        connection.execute(text("UPDATE ingest.work SET num_attempts = 32767, num_solo_attempts = 32767"))
    with database.begin() as connection:
        claimed = ledger.claim(connection, ids[:1], worker="w", policy=POLICY, attempt=3)
        assert claimed.submission_ids == ids[:1]
        assert solo_attempts(connection, ids[0]) == 32767
        failed = ledger.fail(connection, claimed, reason="error", detail="x", policy=POLICY)
        assert failed.num_quarantined == 1


def test_a_failed_attempt_waits_before_the_next(database: Engine, ids: list[int]) -> None:
    slow = replace(POLICY, backoff_s=60.0)
    with database.begin() as connection:
        claimed = ledger.claim(connection, ids[:1], worker="w", policy=slow)
        ledger.fail(connection, claimed, reason="error", detail="x", policy=slow)
        assert ledger.claim(connection, ids[:1], worker="w", policy=slow, attempt=2).submission_ids == []
        due = [number for number, _ in ledger.take_due(connection, stale_s=60.0)]
    assert due == ids[1:]


def test_only_lost_messages_are_sent_again(database: Engine, ids: list[int]) -> None:
    with database.begin() as connection:
        assert [number for number, _ in ledger.take_due(connection, stale_s=60.0)] == ids
    with database.begin() as connection:
        assert ledger.take_due(connection, stale_s=60.0) == []
        connection.execute(text("UPDATE ingest.work SET dispatched_at = now() - interval '2 minutes'"))
        assert len(ledger.take_due(connection, stale_s=60.0)) == 10
        ledger.forget_dispatch(connection, ids[:4])
        assert [number for number, _ in ledger.take_due(connection, stale_s=60.0)] == ids[:4]


def test_what_was_ready_first_is_sent_first_however_often_others_come_back(
    database: Engine, ids: list[int]
) -> None:
    """Else many answers of an item whose scorer cannot be read would keep all later ones from being sent."""
    sent = []
    for _ in range(2):
        with database.begin() as connection:
            due = [number for number, _ in ledger.take_due(connection, stale_s=60.0, max_rows=5)]
            claimed = ledger.claim(connection, due, worker="w", policy=POLICY)
        with database.begin() as connection:
            ledger.give_back(connection, claimed, reason="no working scorer", delay_s=0.0)
        sent.append(sorted(due))
    assert sent == [ids[:5], ids[5:]]


def test_items_without_a_champion_wait_undispatched(database: Engine, scorer_id: int) -> None:
    with database.begin() as connection:
        registry.save_items(connection, [rows.item("item-new")])
        waiting = rows.accept(connection, 3, item_id="item-new", name="new.csv")
        assert ledger.take_due(connection, stale_s=60.0) == []
        new = registry.register_scorer(connection, rows.scorer("item-new"))
        registry.promote(connection, [new], actor="test", reason="trained")
        assert ledger.take_due(connection, stale_s=60.0) == [(number, "item-new") for number in waiting]


def test_probabilities_of_different_lengths_are_kept_apart(
    database: Engine, ids: list[int], scorer_id: int
) -> None:
    with database.begin() as connection:
        claimed = ledger.claim(connection, ids[:2], worker="w", policy=POLICY)
        columns = rows.sheet(ids[:2], scorer_id)
        columns.probabilities[:] = [[0.25, 0.75], None]
        columns.level[1], columns.confidence[1], columns.condition_code[1] = None, None, "blank"
        ledger.finish(connection, claimed.token, ids[:2], columns)
        found = connection.execute(
            text("SELECT probabilities, condition_code FROM score.machine_score ORDER BY submission_id")
        ).all()
    assert [(row.probabilities, row.condition_code) for row in found] == [
        ([0.25, 0.75], None),
        (None, "blank"),
    ]
