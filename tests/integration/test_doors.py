"""Events through the stream and the task door on real servers: taken once, refused with their bytes."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
import redis
from sqlalchemy import text

from db import quarantine
from db.session import make_engine
from scoring.errors import BrokerUnavailableError, DatabaseUnavailableError
from tests import rows
from workers.doors.desk import Desk, Letter
from workers.doors.gate import Gate
from workers.doors.stream import StreamReader, stream_name
from workers.doors.task import take_task
from workers.settings import BrokerSettings, IntakeSettings, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine


@pytest.fixture
def database(database_url: str) -> Iterator[Engine]:
    engine = make_engine(database_url)
    with engine.begin() as connection:
        rows.serve(connection, "item-a")
    yield engine
    engine.dispose()


@pytest.fixture
def client(broker_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(broker_url, protocol=2) as made:
        yield made


SETTINGS = Settings(broker=BrokerSettings(prefix="doors"), intake=IntakeSettings(stream_idle_s=0.2))
STREAM = stream_name(SETTINGS)


def reader(database: Engine, client: redis.Redis, name: str = "a") -> StreamReader:
    return StreamReader(database, Desk(database, SETTINGS.intake), client, SETTINGS, name=name)


def event(response_id: str, answer: str = "an answer", **changes: object) -> bytes:
    found = {"version": 1, "source": "lms", "response_id": response_id, "item_id": "item-a", "text": answer}
    return json.dumps(found | changes).encode()


def read_all(one: StreamReader) -> int:
    """Until two reads in a row found nothing: the first of all makes the group."""
    total = 0
    for _ in range(2):
        while taken := one.read_once():
            total += taken
    return total


def submissions(database: Engine) -> dict[str, str]:
    with database.connect() as connection:
        found = connection.execute(text("SELECT response_id, text FROM ingest.submission"))
        return {row.response_id: row.text for row in found}


def reasons(database: Engine) -> list[tuple[str, str]]:
    with database.connect() as connection:
        return [(case.door, case.reason) for case in quarantine.cases(connection)]


def test_events_are_taken_once_acknowledged_and_deleted(database: Engine, client: redis.Redis) -> None:
    for number in range(5):
        client.xadd(
            STREAM, {"event": event(f"r{number}", student_id="s1", submitted_at="2026-03-01T08:30:00Z")}
        )
    client.xadd(STREAM, {"event": event("r0", student_id="s1", submitted_at="2026-03-01T08:30:00Z")})
    assert read_all(reader(database, client)) == 6
    assert sorted(submissions(database)) == ["r0", "r1", "r2", "r3", "r4"]
    assert client.xlen(STREAM) == 0
    assert client.xpending(STREAM, "doors")["pending"] == 0
    assert reasons(database) == []


def test_what_is_refused_is_kept_with_its_bytes_and_its_neighbours_are_taken(
    database: Engine, client: redis.Redis
) -> None:
    bad = [b"\xff\x00", event("v", version=7), event("u", item_id="item-zz"), event("ok", "other words")]
    client.xadd(STREAM, {"event": event("ok")})
    read_all(reader(database, client))
    for payload in bad:
        client.xadd(STREAM, {"event": payload})
    client.xadd(STREAM, {"body": b"no event", "x": b"y"})
    client.xadd(STREAM, {"event": event("fine")})
    read_all(reader(database, client))
    assert submissions(database) == {"ok": "an answer", "fine": "an answer"}
    with database.connect() as connection:
        kept = {case.reason: case.payload for case in quarantine.cases(connection)}
    assert kept["unknown_version"] == bad[1]
    assert kept["unknown_item"] == bad[2]
    assert kept["conflict"] == bad[3]
    assert sorted(reason for _, reason in reasons(database)) == [
        "conflict", "not_json", "not_json", "unknown_item", "unknown_version",
    ]  # fmt: skip
    with database.connect() as connection:
        payloads = {case.payload for case in quarantine.cases(connection, reason="not_json")}
    assert payloads == {b"\xff\x00", b"body no event\nx y"}


def test_a_dead_readers_entries_are_claimed_by_another(database: Engine, client: redis.Redis) -> None:
    living = reader(database, client, "living")
    living.read_once()
    client.xadd(STREAM, {"event": event("r1")})
    assert client.xreadgroup("doors", "dead", {STREAM: ">"}, count=10)
    assert living.read_once() == 0
    time.sleep(0.4)
    assert read_all(living) == 1
    assert list(submissions(database)) == ["r1"]


def test_a_crash_between_commit_and_acknowledgement_doubles_nothing(
    database: Engine, client: redis.Redis
) -> None:
    first = reader(database, client, "first")
    first.read_once()
    client.xadd(STREAM, {"event": event("r1")})
    client.xadd(STREAM, {"event": b"broken"})
    first._settle = lambda _numbers: None
    assert first.read_once() == 2
    time.sleep(0.4)
    assert read_all(reader(database, client, "second")) == 2
    assert list(submissions(database)) == ["r1"]
    assert reasons(database) == [("stream", "not_json")]
    assert client.xlen(STREAM) == 0


def test_an_entry_that_no_reader_settles_is_set_aside_unread(database: Engine, client: redis.Redis) -> None:
    one = reader(database, client)
    one.read_once()
    numbers = [client.xadd(STREAM, {"event": event(f"r{n}")}) for n in range(3)]
    client.xreadgroup("doors", "dead", {STREAM: ">"}, count=10)
    client.xclaim(STREAM, "doors", "dead", 0, [numbers[1]], retrycount=10)
    time.sleep(0.4)
    assert read_all(one) == 3
    assert sorted(submissions(database)) == ["r0", "r2"]
    with database.connect() as connection:
        (case,) = quarantine.cases(connection)
    assert (case.reason, case.payload) == ("never_settled", event("r1"))
    assert client.xlen(STREAM) == 0


def test_the_group_comes_back_after_flushall(database: Engine, client: redis.Redis) -> None:
    one = reader(database, client)
    client.xadd(STREAM, {"event": event("r1")})
    read_all(one)
    client.flushdb()
    client.xadd(STREAM, {"event": event("r2")})
    read_all(one)
    assert sorted(submissions(database)) == ["r1", "r2"]


def test_nothing_is_taken_from_the_stream_while_postgres_is_away(client: redis.Redis) -> None:
    absent = make_engine("postgresql+psycopg://nobody@/none?host=/nowhere")
    client.xadd(STREAM, {"event": event("r1")})
    with pytest.raises(DatabaseUnavailableError):
        reader(absent, client).read_once()
    assert client.xlen(STREAM) == 1
    assert client.exists(STREAM)


def test_an_absent_redis_is_an_error_of_ours(database: Engine) -> None:
    away = redis.Redis(unix_socket_path="/nowhere/redis.sock")
    with pytest.raises(BrokerUnavailableError):
        reader(database, away).read_once()


def test_events_of_a_task_are_taken_and_refused_one_by_one(database: Engine) -> None:
    desk = Desk(database, IntakeSettings())
    good, bad = json.loads(event("t1")), {"version": 1, "text": "half an event"}
    for _ in range(2):  # a redelivery has the same id
        take_task(desk, {"events": [good, bad]}, message_id="m1")
    assert list(submissions(database)) == ["t1"]
    assert reasons(database) == [("task", "invalid_event")]


@pytest.mark.parametrize(
    "payload", [{}, {"events": []}, {"events": {}}, {"events": [1], "x": 2}, {"event": {}}]
)
def test_a_task_without_a_list_of_events_is_kept(database: Engine, payload: dict[str, object]) -> None:
    take_task(Desk(database, IntakeSettings()), payload, message_id="m1")
    with database.connect() as connection:
        (case,) = quarantine.cases(connection)
    assert (case.door, case.reason) == ("task", "not_a_list_of_events")
    assert json.loads(case.payload or b"") == payload


def test_a_row_that_postgres_refuses_leaves_its_neighbours_alone(database: Engine) -> None:
    # A rule that only the database knows, and that the border has forgotten.
    with database.begin() as connection:
        connection.execute(text("ALTER TABLE ingest.submission ADD CHECK (response_id <> 'r3')"))
    letters = [Letter(event(f"r{number}"), f"here {number}") for number in range(7)]
    receipt = Desk(database, IntakeSettings()).take("stream", letters)
    assert receipt.num_new == 6
    assert "r3" not in submissions(database)
    assert reasons(database) == [("stream", "refused_by_database")]


def test_the_gate_puts_an_element_back_when_postgres_is_away() -> None:
    returned = []
    absent = make_engine("postgresql+psycopg://nobody@/none?host=/nowhere")
    gate = Gate(absent, lambda queue, element: returned.append((queue, element)))
    assert gate((b"q", b"\xff")) is None
    assert returned == [(b"q", b"\xff")]


def test_a_consumer_is_deaf_only_while_a_hand_is_free(database: Engine) -> None:
    gate = Gate(database, lambda _queue, _element: None)
    time.sleep(0.05)
    assert gate.deaf_s(num_hands=1) >= 0.05
    with gate.held():
        assert gate.deaf_s(num_hands=1) == 0.0
        assert gate.deaf_s(num_hands=2) >= 0.05
    assert gate.deaf_s(num_hands=1) < 0.05
    assert gate(None) is None
