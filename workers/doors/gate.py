"""The gate in front of kombu: every element that is popped from a broker's list passes through here.

What is no message of ours is kept in quarantine with its bytes, and kombu never hears of it. The gate also
knows when the worker last heard from the broker, which is how a deaf consumer is found out.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from db import quarantine
from db.quarantine import Refusal
from scoring.errors import DatabaseUnavailableError, TransientError
from workers.doors.desk import kept
from workers.doors.envelope import EnvelopeError, readmit
from workers.telemetry import get_logger
from workers.writer import database_errors, patiently

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Engine as Database

log = get_logger("gate")

_JAMMED_PAUSE_S = 1.0

#: What BRPOP answers: a list's name and an element, or nothing.
Reply = tuple[bytes, bytes]


class Gate:
    """Lets messages through and everything else aside; called by the consumer's own thread."""

    def __init__(
        self,
        database: Database,
        put_back: Callable[[bytes, bytes], None],
        *,
        clear_way: Callable[[], int] = lambda: 0,
    ) -> None:
        """`put_back` returns an element to the far end of its list; `clear_way` puts strays aside."""
        self._database = database
        self._put_back = put_back
        self._clear_way = clear_way
        self._heard_at = time.monotonic()
        self._lock = threading.Lock()
        self._num_held = 0

    @contextmanager
    def held(self) -> Iterator[None]:
        """One message is in hand for the length of the block."""
        with self._lock:
            self._num_held += 1
        try:
            yield
        finally:
            with self._lock:
                self._num_held -= 1
                self._heard_at = time.monotonic()

    def deaf_s(self, *, num_hands: int) -> float:
        """For how long the broker, asked every second, has not been heard; 0 while no hand is free."""
        with self._lock:
            return 0.0 if self._num_held >= num_hands else time.monotonic() - self._heard_at

    def __call__(self, reply: Reply | None) -> Reply | None:
        """What kombu is to see of a BRPOP's reply."""
        self._heard_at = time.monotonic()
        if not reply:
            return None
        queue, element = reply
        try:
            return queue, readmit(element, queue=queue.decode("utf-8", "replace"))
        except EnvelopeError as error:
            self._set_aside(queue, element, error)
            return None

    def jammed(self, reason: str) -> None:
        """The broker answers, but hands nothing out: try to clear its keys, and ask again a little later."""
        self._heard_at = time.monotonic()
        log.warning("broker_refuses", reason=reason)
        try:
            with database_errors():
                is_cleared = self._clear_way() > 0
        except TransientError as error:
            log.warning("way_not_cleared", reason=str(error))
            is_cleared = False
        if not is_cleared:
            time.sleep(_JAMMED_PAUSE_S)

    def _set_aside(self, queue: bytes, element: bytes, error: EnvelopeError) -> None:
        log.warning("message_refused", reason=error.reason, num_bytes=len(element))
        refusal = Refusal("broker", error.reason, str(error), kept(element))

        def step() -> None:
            with self._database.begin() as connection:
                quarantine.keep(connection, [refusal])

        try:
            patiently(step, give_up_after_s=5.0)
        except DatabaseUnavailableError:
            self._put_back(queue, element)
