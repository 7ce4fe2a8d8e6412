"""The Celery application and what we say to the broker; only this room and `consumer` know Celery.

Redis keys: `<prefix>.shard.<n>` (list, one a shard), `<prefix>.nightly` and `<prefix>.submit` (lists), and
kombu's own `unacked`, `unacked_index`, `_kombu.binding.*`. Losing any of them but `submit`, the task door,
loses nothing: Postgres is the ledger.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import cache, partial
from queue import Empty
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import uuid4

import redis
from celery import Celery
from kombu import Connection, Exchange, Queue
from kombu.exceptions import OperationalError

from scoring.errors import BrokerUnavailableError
from workers.doors import strays
from workers.embedded.urls import kombu_url
from workers.events import NIGHTLY_TASK, SCORE_TASK, WorkMessage
from workers.places import broker_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from sqlalchemy import Engine as Database

    from workers.doors.gate import Gate
    from workers.settings import Settings

_SOCKET_TIMEOUT_S = 15.0
#: How often beat says "it is night"; the run's row in Postgres makes it once a day.
_NIGHTLY_TICK_S = 900.0


def shard_queue(settings: Settings, shard: int) -> str:
    """Name of a shard's queue."""
    return f"{settings.broker.prefix}.shard.{shard}"


def nightly_queue(settings: Settings) -> str:
    """Name of the queue of scheduled work."""
    return f"{settings.broker.prefix}.nightly"


def submit_queue(settings: Settings) -> str:
    """Name of the queue of the task door."""
    return f"{settings.broker.prefix}.submit"


def key_kinds(settings: Settings) -> dict[str, str]:
    """The Redis keys of a worker's lists and of kombu's book of unacknowledged messages, with their kinds."""
    queues = [shard_queue(settings, shard) for shard in range(settings.broker.num_shards)]
    queues += [nightly_queue(settings), submit_queue(settings)]
    return dict.fromkeys(queues, "list") | {"unacked": "hash", "unacked_index": "zset"}


class GatedConnection(Connection):
    """A kombu connection whose channels show every popped element to the gate before they decode it."""

    def get_transport_cls(self) -> Any:
        """The transport for this URL, with gated channels."""
        transport: Any = super().get_transport_cls()
        return _gated(transport)


class _GatedChannel:
    """Mixed into a Redis channel of kombu, whose `BRPOP` replies all pass through `parse_response`."""

    gate: Gate | None = None

    def _create_client(self, asynchronous: bool = False) -> Any:  # noqa: FBT001, FBT002 (kombu's signature)
        client = super()._create_client(asynchronous)  # type: ignore[misc]
        if self.gate is not None:
            client.parse_response = partial(_pass_gate, self.gate, client.parse_response)
        return client

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[misc]
        except redis.ResponseError as error:
            # A refusal (a key of another kind, no memory left) would end the worker; it is asked again.
            if self.gate is None:
                raise
            self.gate.jammed(str(error))
            raise Empty from error


def make_app(settings: Settings, *, gate: Gate | None = None) -> Celery:
    """Build the Celery application; no connection is made yet.

    Args:
        settings: all settings.
        gate: stands between the broker's lists and a worker that consumes them.
    """
    app = Celery("scorefold", broker=kombu_url(broker_url(settings)), set_as_current=False)
    app.amqp.Connection = GatedConnection
    names = [name for name, kind in key_kinds(settings).items() if kind == "list"]
    app.conf.update(
        task_queues=[Queue(name, Exchange(name), routing_key=name) for name in names],
        task_default_queue=nightly_queue(settings),
        task_create_missing_queues=False,
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_acks_late=True,
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_soft_shutdown_timeout=settings.worker.soft_stop_s,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "visibility_timeout": 900,
            "unacked_restore_interval": 5,
            "unacked_restore_throttle": 1,
            "socket_timeout": _SOCKET_TIMEOUT_S,
            "socket_connect_timeout": 5.0,
            "priority_steps": [0],
            "gate": gate,
        },
        broker_use_ssl=_tls(broker_url(settings)),
        beat_schedule={"nightly": {"task": NIGHTLY_TASK, "schedule": _NIGHTLY_TICK_S}},
        beat_scheduler="celery.beat:Scheduler",  # the default one keeps a pickle on disk
    )
    return app


class BrokerPublisher:
    """Puts work messages into the shards' queues."""

    def __init__(self, app: Celery, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._client = redis.Redis.from_url(
            broker_url(settings), socket_timeout=_SOCKET_TIMEOUT_S, socket_connect_timeout=5.0
        )

    def publish(self, shard: int, ids: Sequence[int]) -> None:
        """Put one message into a shard's queue.

        Raises:
            BrokerUnavailableError: the broker does not take it.
        """
        payload = WorkMessage(shard=shard, ids=list(ids)).model_dump()
        message = self._app.amqp.as_task_v2(
            str(uuid4()), SCORE_TASK, kwargs=payload, argsrepr="", kwargsrepr=f"{len(ids)} submissions"
        )
        with _broker_errors(), self._app.producer_pool.acquire(block=True, timeout=30) as producer:
            # The nameless exchange puts a message straight into the list: the bindings of a named one
            # are keys in Redis, and a publish after FLUSHALL would vanish without an error.
            producer.publish(
                message.body,
                exchange="",
                routing_key=shard_queue(self._settings, shard),
                headers=message.headers,
                serializer="json",
                retry=True,
                retry_policy={"max_retries": 2, "interval_start": 0.1, "interval_max": 0.5},
                **message.properties,
            )

    def put_back(self, queue: bytes, element: bytes) -> None:
        """Return an element to the far end of its list, as it was.

        Raises:
            BrokerUnavailableError: the broker does not take it.
        """
        with _broker_errors():
            self._client.lpush(queue, element)

    def clear_way(self, database: Database, kinds: Mapping[str, str]) -> int:
        """Put aside keys that are not of their kind, and keep a case for each; returns how many there were.

        Raises:
            BrokerUnavailableError: the broker does not answer.
        """
        return strays.clear_way(database, self._client, kinds)

    def answers(self) -> bool:
        """Whether the broker answers."""
        try:
            return bool(self._client.ping())
        except (redis.RedisError, OSError):
            return False

    def num_waiting_messages(self) -> int:
        """Messages in all shards that no worker has taken.

        Raises:
            BrokerUnavailableError: the broker does not answer.
        """
        shards = range(self._settings.broker.num_shards)
        with _broker_errors(), self._client.pipeline(transaction=False) as pipe:
            for shard in shards:
                pipe.llen(shard_queue(self._settings, shard))
            return sum(int(length) for length in pipe.execute())


@cache
def _gated(transport: Any) -> Any:
    options = (*transport.Channel.from_transport_options, "gate")
    channel = type("GatedChannel", (_GatedChannel, transport.Channel), {"from_transport_options": options})
    return type("GatedTransport", (transport,), {"Channel": channel})


def _pass_gate(
    gate: Gate, parse: Callable[..., Any], connection: Any, command_name: str, **options: Any
) -> Any:
    reply = parse(connection, command_name, **options)
    return gate(reply) if command_name == "BRPOP" else reply


def _tls(url: str) -> dict[str, str] | None:
    # kombu takes rediss:// without further word for "any certificate will do"; redis-py does not.
    parts = urlsplit(url)
    if parts.scheme != "rediss" or "ssl_cert_reqs" in parts.query:
        return None
    return {"ssl_cert_reqs": "required"}


@contextmanager
def _broker_errors() -> Iterator[None]:
    try:
        yield
    except (OperationalError, redis.RedisError, OSError) as error:
        raise BrokerUnavailableError(f"Redis does not answer: {type(error).__name__}") from error
