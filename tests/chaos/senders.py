"""The systems that send answers, through all three doors, and the list of what they sent.

Each answer goes through one door; some are sent three times, some again with other content, and between them
stand bytes that mean nothing. What is sent is written into the manifest, which the verdict is measured by.
"""

from __future__ import annotations

import base64
import contextlib
import json
import random
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import UUID

import redis
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from scoring.errors import DatabaseUnavailableError
from tests.chaos.perils import CRASH
from tests.deployment import ITEMS
from tests.unit.tiny_encoders import WORDS
from workers.intake import submit_file
from workers.settings import IntakeSettings

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine as Database

SOURCE = "exporter"
STREAM = "scorefold.submissions"
_TICK_S = 0.25

#: Raw bytes for kombu's own lists: none is a message of ours.
BAD_ELEMENTS = (
    b"\xff\xfe\x00 no json",
    b"[]",
    b"{}",
    (
        b'{"body": "###", "headers": {"task": "scorefold.score", "id": "1"}, "content-type":'
        b' "application/json", "properties": {"body_encoding": "base64"}}'
    ),
    (
        b'{"body": "gAR9Lg==", "headers": {"task": "scorefold.score", "id": "1"}, "content-type":'
        b' "application/x-python-serialize", "properties": {"body_encoding": "base64", "delivery_tag": "1"}}'
    ),
    (
        b'{"body": "W1tdLCB7fSwge31d", "headers": {"task": "somebody.elses", "id": "1"}, "content-type":'
        b' "application/json", "properties": {"body_encoding": "base64", "delivery_tag": "1"}}'
    ),
)
#: Values of a stream entry's field: none is an event.
BAD_EVENTS = (b"\x00\xff", b"[1]", b'{"version": 2}', b'{"version": 1, "source": ""}', b"")


@dataclass(slots=True)
class Sent:
    """What has been sent; `excused` are answers that Redis may have lost before any reader had them."""

    texts: dict[str, str] = field(default_factory=dict)
    door: dict[str, str] = field(default_factory=dict)
    item: dict[str, str] = field(default_factory=dict)
    excused: set[str] = field(default_factory=set)
    crashing: set[str] = field(default_factory=set)
    num_conflicts: int = 0
    num_bad_elements: int = 0
    num_bad_events: int = 0


class Senders:
    """Three senders in one thread; the adversary holds `lock` while it takes Redis' memory away."""

    def __init__(
        self,
        folder: Path,
        database: Database,
        broker_url: str,
        *,
        seed: int,
        num_answers: int,
        duration_s: float,
    ) -> None:
        self._folder = folder
        self._database = database
        self._client = redis.Redis.from_url(broker_url, socket_timeout=5.0)
        self._dice = random.Random(f"senders {seed}")
        self._num_answers = num_answers
        self._duration_s = duration_s
        self._number = 0
        self.sent = Sent()
        self.lock = threading.Lock()
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._guarded, name="senders")

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        self._thread.join()
        if self.failure is not None:
            raise self.failure

    def publish(self, word: str, *, item: str | None = None) -> str:
        """Send one answer with this word in it through the stream; its response id."""
        while True:
            with self.lock:
                response_id = self._new(word, door="stream", item=item)
                try:
                    self._add_event(response_id, self.sent.texts[response_id])
                except redis.RedisError:
                    self._forget(response_id)
                else:
                    return response_id
            time.sleep(0.2)

    def burst(self, count: int) -> None:
        """Send answers through the stream as fast as it takes them."""
        with self.lock, contextlib.suppress(redis.RedisError):
            self._by_stream(count)

    def send_again(self, response_ids: set[str]) -> None:
        """What a reconciling sender does: what the ledger lacks is sent once more."""
        for response_id in sorted(response_ids):
            self._add_event(response_id, self.sent.texts[response_id])

    def in_stream(self) -> set[str]:
        """Response ids of the events that stand in the stream now."""
        found = set()
        for _, fields in self._client.xrange(STREAM):
            try:
                found.add(json.loads(fields[b"event"])["response_id"])
            except (ValueError, KeyError, TypeError):
                continue
        return found

    def num_task_messages(self) -> int:
        """Messages of the task door that stand in its list."""
        return int(self._client.llen("scorefold.submit"))

    def _guarded(self) -> None:
        try:
            self._send_all()
        except BaseException as error:  # noqa: BLE001 (raised again by join)
            self.failure = error

    def _send_all(self) -> None:
        started, crash_at = time.monotonic(), [0.1, 0.3]
        while (gone := (time.monotonic() - started) / self._duration_s) < 1:
            if crash_at and gone > crash_at[0]:
                crash_at.pop(0)
                self.sent.crashing.add(self.publish(CRASH))
            num_due = int(self._num_answers * gone) - self._number
            if num_due > 0:
                self._tick(num_due)
            time.sleep(_TICK_S)

    def _tick(self, num_due: int) -> None:
        self._number += num_due
        shares = [self._dice.random() for _ in range(3)]
        counts = [round(num_due * share / sum(shares)) for share in shares]
        for send, count in zip((self._by_file, self._by_stream, self._by_task), counts, strict=True):
            with self.lock:
                try:
                    send(count)
                except redis.RedisError:
                    continue  # a sender whose message was not taken has sent nothing
        self._nonsense()
        self._contradiction()

    def _by_file(self, count: int) -> None:
        if not count:
            return
        ids = [self._new("", door="file") for _ in range(count)]
        path = self._folder / f"file-{ids[0]}.jsonl"
        records = [
            {"response_id": one, "item_id": self.sent.item[one], "text": self.sent.texts[one]} for one in ids
        ]
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        while True:
            try:
                submit_file(self._database, path, source=SOURCE, limits=IntakeSettings())
            except DatabaseUnavailableError:
                time.sleep(0.2)
            else:
                return

    def _by_stream(self, count: int) -> None:
        for _ in range(count):
            response_id = self._new("", door="stream")
            try:
                for _ in range(3 if self._dice.random() < 0.1 else 1):
                    self._add_event(response_id, self.sent.texts[response_id])
            except redis.RedisError:
                self.sent.excused.add(response_id)
                raise

    def _by_task(self, count: int) -> None:
        ids = [self._new("", door="task") for _ in range(count)]
        for start in range(0, count, 20):
            part = ids[start : start + 20]
            element = task_message([self._event(one, self.sent.texts[one]) for one in part], self._dice)
            for _ in range(3 if self._dice.random() < 0.1 else 1):
                self._client.lpush("scorefold.submit", element)

    def _nonsense(self) -> None:
        with self.lock:
            try:
                if self._dice.random() < 0.2:
                    queue = self._dice.choice(["scorefold.shard.0", "scorefold.shard.5", "scorefold.submit"])
                    self._client.lpush(queue, self._dice.choice(BAD_ELEMENTS))
                    self.sent.num_bad_elements += 1
                if self._dice.random() < 0.2:
                    self._client.xadd(STREAM, {"event": self._dice.choice(BAD_EVENTS)})
                    self.sent.num_bad_events += 1
            except redis.RedisError:
                pass

    def _contradiction(self) -> None:
        """Say something else under a key that the ledger knows."""
        if self._dice.random() > 0.2:
            return
        try:
            with self._database.connect() as connection:
                known = connection.execute(
                    text("SELECT response_id FROM ingest.submission ORDER BY random() LIMIT 1")
                ).scalar()
            with self.lock:
                if known is not None:
                    self._add_event(known, "something else altogether")
                    self.sent.num_conflicts += 1
        except (redis.RedisError, DBAPIError):
            pass  # a server is away: no contradiction today

    def _new(self, word: str, *, door: str, item: str | None = None) -> str:
        response_id = f"r{len(self.sent.texts)}"
        words = " ".join(self._dice.choices(WORDS, k=self._dice.randint(3, 12)))
        self.sent.texts[response_id] = f"{words} {word}".strip() + f" {response_id}"
        self.sent.door[response_id] = door
        self.sent.item[response_id] = item or self._dice.choice(list(ITEMS))
        return response_id

    def _forget(self, response_id: str) -> None:
        # The number stays used; an answer that was never sent is in no manifest.
        self.sent.texts[response_id] = ""
        self.sent.door[response_id] = "none"

    def _event(self, response_id: str, answer: str) -> dict[str, object]:
        return {
            "version": 1,
            "source": SOURCE,
            "response_id": response_id,
            "item_id": self.sent.item[response_id],
            "text": answer,
            "student_id": f"s{int(response_id[1:]) % 97}",
        }

    def _add_event(self, response_id: str, answer: str) -> None:
        self._client.xadd(STREAM, {"event": json.dumps(self._event(response_id, answer))})


def task_message(events: list[dict[str, object]], dice: random.Random) -> bytes:
    """What a producer in any language puts into the list: Celery's message protocol 2, by hand."""
    number = str(UUID(int=dice.getrandbits(128), version=4))
    return json.dumps(
        {
            "body": base64.b64encode(json.dumps([[], {"events": events}, {}]).encode()).decode(),
            "content-type": "application/json",
            "content-encoding": "utf-8",
            "headers": {"task": "scorefold.submit", "id": number, "lang": "any"},
            "properties": {"body_encoding": "base64", "delivery_tag": number},
        }
    ).encode()
