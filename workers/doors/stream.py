"""The stream door: events from a Redis Stream into the ledger, acknowledged after the commit.

Redis keys: `<prefix>.<stream>` (stream; entries are deleted once settled, for they hold students' answers),
with one consumer group named after the prefix. What a reader took and did not settle goes to another reader
after a while. An entry that FLUSHALL or a crash of Redis takes away before the commit was never accepted:
`scorefold reconcile` names it to the sender.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any, TypeAlias

import redis
from sqlalchemy import text

from scoring.errors import BrokerUnavailableError, TransientError
from workers.doors.desk import Letter
from workers.places import broker_url
from workers.telemetry import get_logger
from workers.writer import database_errors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sqlalchemy import Engine as Database

    from workers.doors.desk import Desk
    from workers.settings import Settings

log = get_logger("stream")

#: The one field of an entry.
FIELD = b"event"

#: An entry that so many readers took and none settled is not tried again: it may be what ends them.
_MAX_DELIVERIES = 10
_BLOCK_MS = 1000
_PAUSE_S = 1.0

_NEVER_SETTLED = f"taken by {_MAX_DELIVERIES} readers, settled by none"

Entry: TypeAlias = "tuple[bytes, Mapping[bytes, bytes] | None]"


class StreamReader:
    """One reader of the group; any number may read, in any process."""

    def __init__(
        self, database: Database, desk: Desk, client: redis.Redis, settings: Settings, *, name: str
    ) -> None:
        self._database = database
        self._desk = desk
        self._client = client
        self._stream = stream_name(settings)
        self._group = settings.broker.prefix
        self._name = name
        self._max_entries = settings.intake.max_events_per_read
        self._idle_ms = int(settings.intake.stream_idle_s * 1000)
        self._look_for_abandoned_at = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self.run, name="stream", daemon=True)

    def start(self) -> None:
        """Read in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """End after the entries in hand; does not wait."""
        self._stop.set()

    def join(self) -> None:
        """Wait for the thread's end."""
        if self._thread.is_alive():
            self._thread.join(timeout=10.0)

    def run(self) -> None:
        """Read until stopped; trouble with a server is logged and outlived."""
        while not self._stop.is_set():
            try:
                self.read_once()
            except TransientError as error:
                log.warning("stream_waits", reason=str(error))
                self._stop.wait(_PAUSE_S)
            except Exception:
                log.exception("stream_round_failed")
                self._stop.wait(_PAUSE_S)
        with contextlib.suppress(TransientError), _redis_errors():
            self._leave()

    def read_once(self) -> int:
        """Take what a silent reader left behind, or what is new; returns how many entries were settled.

        Raises:
            BrokerUnavailableError: Redis does not answer.
            DatabaseUnavailableError: Postgres does not answer; the entries stay with the group.
        """
        # Nothing is taken while it could not be committed: others would think this reader dead.
        with database_errors(), self._database.connect() as connection:
            connection.execute(text("SELECT 1"))
        with _redis_errors():
            entries = self._take()
            worn_out = self._worn_out(entries)
        if not entries:
            return 0
        letters = {
            number: Letter(_event(fields), f"{self._stream} {number.decode()}")
            for number, fields in entries
            if fields
        }
        for number in worn_out & letters.keys():
            self._desk.refuse("stream", letters.pop(number), "never_settled", _NEVER_SETTLED)
        self._desk.take("stream", list(letters.values()), stop=self._stop.is_set)
        with _redis_errors():
            self._settle([number for number, _ in entries])
        return len(entries)

    def _take(self) -> list[Entry]:
        try:
            return self._abandoned() or self._new()
        except redis.ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            # From the beginning: after a loss of Redis' data, whatever is there has not been read.
            with contextlib.suppress(redis.ResponseError):
                self._client.xgroup_create(self._stream, self._group, id="0", mkstream=True)
            return []

    def _abandoned(self) -> list[Entry]:
        if time.monotonic() < self._look_for_abandoned_at:
            return []
        found: Any = self._client.xautoclaim(
            self._stream, self._group, self._name, min_idle_time=self._idle_ms, count=self._max_entries
        )
        entries: list[Entry] = found[1]
        if entries:
            log.info("entries_claimed", num_entries=len(entries))
        else:
            self._look_for_abandoned_at = time.monotonic() + self._idle_ms / 2000
        return entries

    def _worn_out(self, entries: list[Entry]) -> set[bytes]:
        if not entries:
            return set()
        first, last = entries[0][0], entries[-1][0]
        pending: Any = self._client.xpending_range(
            self._stream, self._group, min=first, max=last, count=len(entries), consumername=self._name
        )
        return {one["message_id"] for one in pending if one["times_delivered"] > _MAX_DELIVERIES}

    def _new(self) -> list[Entry]:
        found: Any = self._client.xreadgroup(
            self._group, self._name, {self._stream: ">"}, count=self._max_entries, block=_BLOCK_MS
        )
        return found[0][1] if found else []

    def _settle(self, numbers: list[bytes]) -> None:
        with self._client.pipeline(transaction=True) as pipe:
            pipe.xack(self._stream, self._group, *numbers)
            pipe.xdel(self._stream, *numbers)
            pipe.execute()

    def _leave(self) -> None:
        """Take this reader's name off the group, unless entries still stand under it."""
        for consumer in self._client.xinfo_consumers(self._stream, self._group):
            if consumer["name"] == self._name.encode() and consumer["pending"] == 0:
                self._client.xgroup_delconsumer(self._stream, self._group, self._name)


def open_reader(settings: Settings, database: Database, desk: Desk, *, name: str) -> StreamReader:
    """A reader of the stream that the settings name; `name` is this process's, and nobody else's."""
    client = redis.Redis.from_url(
        broker_url(settings), socket_timeout=15.0, socket_connect_timeout=5.0, protocol=2
    )
    return StreamReader(database, desk, client, settings, name=name)


def stream_name(settings: Settings) -> str:
    """Redis key of the stream of events."""
    return f"{settings.broker.prefix}.{settings.intake.stream}"


def _event(fields: Mapping[bytes, bytes]) -> bytes:
    if fields.keys() == {FIELD}:
        return fields[FIELD]
    # Not the documented entry: all of it, as it came, for whoever looks at the quarantine.
    return b"\n".join(name + b" " + value for name, value in fields.items())


@contextlib.contextmanager
def _redis_errors() -> Iterator[None]:
    try:
        yield
    except (redis.RedisError, OSError) as error:
        raise BrokerUnavailableError(f"Redis does not answer: {type(error).__name__}") from error
