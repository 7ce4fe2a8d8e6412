"""Waiting submissions become messages: after an intake, and whenever something was lost on the way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from db import ledger, registry
from scoring.errors import BrokerUnavailableError
from workers.roster import routing_table
from workers.router import cut_messages
from workers.telemetry import get_logger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Engine as Database

    from workers.settings import Settings

log = get_logger("dispatch")


class Publisher(Protocol):
    """The broker's side of a dispatch."""

    def publish(self, shard: int, ids: Sequence[int]) -> None:
        """Put one message into a shard's queue.

        Raises:
            BrokerUnavailableError: the broker does not take it.
        """

    def num_waiting_messages(self) -> int:
        """Messages in all queues that no worker has taken.

        Raises:
            BrokerUnavailableError: the broker does not answer.
        """


@dataclass(frozen=True, slots=True)
class DispatchPolicy:
    """How work is cut, and when a message counts as lost."""

    num_shards: int
    max_ids: int
    stale_s: float
    idle_stale_s: float
    max_rows: int = 50_000


def dispatch_policy(settings: Settings) -> DispatchPolicy:
    """The dispatch as set."""
    return DispatchPolicy(
        num_shards=settings.broker.num_shards,
        max_ids=settings.worker.max_ids_per_message,
        stale_s=settings.worker.stale_s,
        idle_stale_s=settings.worker.idle_stale_s,
    )


class Dispatcher:
    """Sends a hint for every submission that waits and has none under way."""

    def __init__(self, database: Database, publisher: Publisher, policy: DispatchPolicy) -> None:
        self._database = database
        self._publisher = publisher
        self._policy = policy

    def dispatch(self) -> int:
        """Send messages for what is due; returns how many submissions were named.

        Raises:
            BrokerUnavailableError: nothing, or not all, could be sent; the rest stays due.
        """
        # Empty queues with work left mean lost messages: no need to wait for their age.
        idle = self._publisher.num_waiting_messages() == 0
        stale_s = self._policy.idle_stale_s if idle else self._policy.stale_s
        with self._database.begin() as connection:
            due = ledger.take_due(connection, stale_s=stale_s, max_rows=self._policy.max_rows)
            snapshot = registry.snapshot(connection) if due else None
        if snapshot is None:
            return 0
        table = routing_table(snapshot, num_shards=self._policy.num_shards)
        self._send(cut_messages(due, table, max_ids=self._policy.max_ids))
        log.info("dispatched", num_submissions=len(due))
        return len(due)

    def _send(self, messages: Sequence[tuple[int, list[int]]]) -> None:
        for position, (shard, ids) in enumerate(messages):
            try:
                self._publisher.publish(shard, ids)
            except BrokerUnavailableError:
                unsent = [number for _, rest in messages[position:] for number in rest]
                with self._database.begin() as connection:
                    ledger.forget_dispatch(connection, unsent)
                raise
