"""Keys of ours that somebody fills with another kind of value: kept under another name, and work goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import redis

from scoring.errors import BrokerUnavailableError
from tests.deployment import Deployment
from workers.doors.strays import put_aside

if TYPE_CHECKING:
    from pathlib import Path

DONE = "SELECT count(*) FROM ingest.work WHERE state = 'done'"
STRAYS = "SELECT count(*) FROM ingest.quarantine WHERE reason = 'wrong_key_type'"


@pytest.mark.parametrize("sweep_interval_s", [0.5, 600])
def test_a_worker_outlives_keys_of_another_kind(
    sweep_interval_s: float, tmp_path: Path, database_url: str, broker_url: str
) -> None:
    """By its repair round, or, when that comes too late, by the consumer that is refused."""
    town = Deployment.create(
        tmp_path,
        database_url=database_url,
        broker_url=broker_url,
        SCOREFOLD_WORKER__SWEEP_INTERVAL_S=sweep_interval_s,
    )
    keys = ["scorefold.shard.0", "unacked", "unacked_index", "scorefold.submissions"]
    client = redis.Redis.from_url(broker_url)
    try:
        worker = town.start_worker()
        town.wait_until_log("worker_ready")
        for key in keys:
            client.delete(key)
            client.set(key, "not ours")
        town.wait_until(STRAYS, at_least=len(keys), timeout_s=90)
        town.run("submit", str(town.write_answers("night.jsonl", 60)))
        town.wait_until(DONE, at_least=60)
        assert worker.poll() is None
        assert town.faults() == []
        kept = [client.get(key) for key in client.scan_iter("*.set-aside.*")]
        assert kept == [b"not ours"] * len(keys)
    finally:
        town.close()


def test_only_strays_are_renamed(broker_url: str) -> None:
    client = redis.Redis.from_url(broker_url)
    client.rpush("a list", "1")
    client.hset("a hash", "field", "1")
    found = put_aside(client, {"a list": "list", "a hash": "zset", "nothing": "list"})
    assert [(stray.key, stray.kind) for stray in found] == [("a hash", "hash")]
    assert client.lrange("a list", 0, -1) == [b"1"]
    assert client.hgetall(found[0].kept_as) == {b"field": b"1"}
    assert not client.exists("a hash", "nothing")


def test_a_broker_that_is_away_is_said_to_be_away(tmp_path: Path) -> None:
    client = redis.Redis(unix_socket_path=str(tmp_path / "no.sock"))
    with pytest.raises(BrokerUnavailableError):
        put_aside(client, {"a list": "list"})
