"""A real worker behind all its doors: bytes that end a stock worker are kept, good events scored."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

import pytest
import redis
from sqlalchemy import text

from tests.chaos.senders import BAD_ELEMENTS, BAD_EVENTS, task_message
from workers.app import make_app
from workers.events import SUBMIT_TASK
from workers.settings import BrokerSettings, Settings

if TYPE_CHECKING:
    from tests.deployment import Deployment


def event(response_id: str) -> dict[str, object]:
    return {
        "version": 1,
        "source": "lms",
        "response_id": response_id,
        "item_id": "three",
        "text": f"the ice melts {response_id}",
    }


@pytest.mark.timeout(600)
def test_all_doors_of_one_worker(town: Deployment, broker_url: str) -> None:
    client, dice = redis.Redis.from_url(broker_url), random.Random(5)
    worker = town.start_worker()
    town.wait_until_log("worker_ready", timeout_s=240)
    for number, element in enumerate(BAD_ELEMENTS):
        client.lpush(f"scorefold.shard.{number}", element)
    for payload in BAD_EVENTS:
        client.xadd("scorefold.submissions", {"event": payload})
    # By hand, as another language would, three times the same; by Celery; and by the stream.
    by_hand = task_message([event("hand")], dice)
    for _ in range(3):
        client.lpush("scorefold.submit", by_hand)
    app = make_app(Settings(broker=BrokerSettings(url=broker_url)))
    app.send_task(SUBMIT_TASK, kwargs={"events": [event("celery")]}, queue="scorefold.submit")
    app.close()
    client.xadd("scorefold.submissions", {"event": json.dumps(event("stream"))})

    town.wait_until("SELECT count(*) FROM ingest.work WHERE state = 'done'", at_least=3)
    num_bad = len(BAD_ELEMENTS) + len(BAD_EVENTS)
    town.wait_until("SELECT count(*) FROM ingest.quarantine", at_least=num_bad)
    assert worker.poll() is None
    with town.database.connect() as connection:
        kept = connection.execute(text("SELECT door, payload FROM ingest.quarantine ORDER BY 1")).all()
        taken = (
            connection.execute(text("SELECT response_id FROM ingest.submission ORDER BY 1")).scalars().all()
        )
    assert {row.payload for row in kept if row.door == "broker"} == set(BAD_ELEMENTS)
    assert {row.payload for row in kept if row.door == "stream"} == set(BAD_EVENTS)
    assert len(kept) == num_bad
    assert taken == ["celery", "hand", "stream"]
    assert town.faults() == []
    assert client.hlen("unacked") == 0
