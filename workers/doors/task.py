"""The task door: events sent as a Celery task, persisted first thing.

Covered by the promise only from the commit on: until a worker has it, the message lives in Celery's own
lists, where a crash at the wrong moment loses it. The stream door has no such gap.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from workers.doors.desk import Letter
from workers.events import MAX_EVENTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workers.doors.desk import Desk


def take_task(desk: Desk, payload: Mapping[str, object], *, message_id: str) -> None:
    """Take the events of one message into the ledger; what is none goes to quarantine.

    Args:
        desk: takes events in.
        payload: the task's keyword arguments; `events` is a list of events.
        message_id: the task's id; a redelivery has the same.

    Raises:
        DatabaseUnavailableError: Postgres stayed away; nothing was taken.
    """
    events = payload.get("events")
    if payload.keys() != {"events"} or not isinstance(events, list) or not 0 < len(events) <= MAX_EVENTS:
        detail = f"the task takes one argument, events: a list of 1 to {MAX_EVENTS} events"
        desk.refuse(
            "task", Letter(_bytes(dict(payload)), f"task {message_id}"), "not_a_list_of_events", detail
        )
        return
    letters = [Letter(_bytes(event), f"task {message_id} {number}") for number, event in enumerate(events)]
    desk.take("task", letters)


def _bytes(value: object) -> bytes:
    return json.dumps(value, sort_keys=True).encode()
