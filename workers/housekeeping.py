"""What a worker does beside scoring: prolong leases, repair losses, follow promotions, watch itself."""

from __future__ import annotations

import os
import random
import threading
import time
from typing import TYPE_CHECKING

from db import ledger
from scoring.errors import EngineStalledError, TransientError
from workers.health import Pulse, write_pulse
from workers.telemetry import get_logger
from workers.writer import database_errors

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sqlalchemy import Engine as Database

    from db.ledger import LeasePolicy
    from workers.batcher import Batcher
    from workers.dispatch import Dispatcher
    from workers.doors.gate import Gate
    from workers.roster import RosterKeeper

log = get_logger("housekeeping")


class Rounds:
    """Repeats a duty in a thread of its own until stopped; trouble with a server is logged and outlived."""

    def __init__(self, name: str, duty: Callable[[], object], *, interval_s: float) -> None:
        self._duty = duty
        self._interval_s = interval_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the present round."""
        self._stop.set()
        self._thread.join(timeout=10.0)

    def _run(self) -> None:
        # Spread the rounds of many workers; this guards nothing, so plain random will do.
        while not self._stop.wait(self._interval_s * random.uniform(0.8, 1.2)):  # noqa: S311
            try:
                with database_errors():
                    self._duty()
            except TransientError as error:
                log.warning("round_skipped", thread=self._thread.name, reason=str(error))
            except Exception:
                log.exception("round_failed", thread=self._thread.name)


class Watchdog:
    """Tells a supervisor how this process does, and ends it if it cannot go on: the work goes to others."""

    def __init__(
        self,
        batcher: Batcher,
        gate: Gate,
        *,
        stall_s: float,
        num_hands: int,
        broker_answers: Callable[[], bool],
    ) -> None:
        self._batcher = batcher
        self._gate = gate
        self._stall_s = stall_s
        self._num_hands = num_hands
        self._broker_answers = broker_answers
        self._started_at = time.time()

    def look(self, folder: Path) -> None:
        """Write the pulse; end the process if the engine stands still, or the consumer has gone deaf."""
        stalled_s, deaf_s = self._batcher.stalled_s(), self._gate.deaf_s(num_hands=self._num_hands)
        write_pulse(
            folder,
            Pulse(
                pid=os.getpid(),
                started_at=self._started_at,
                at=time.time(),
                stalled_s=stalled_s,
                deaf_s=deaf_s,
            ),
        )
        if stalled_s > self._stall_s:
            log.error("engine_stalled", stalled_s=round(stalled_s))
            os._exit(EngineStalledError.exit_code)
        # Hearing nothing is no fault of ours while the broker is away.
        if deaf_s > self._stall_s and self._broker_answers():
            log.error("consumer_deaf", deaf_s=round(deaf_s))
            os._exit(EngineStalledError.exit_code)


def repair(
    database: Database,
    dispatcher: Dispatcher,
    keeper: RosterKeeper,
    *,
    policy: LeasePolicy,
    clear_way: Callable[[], int],
) -> None:
    """Follow promotions, take back what vanished workers held, clear the queues, send lost messages again."""
    keeper.follow()
    with database.begin() as connection:
        swept = ledger.sweep(connection, policy=policy)
    if swept.num_expired or swept.num_quarantined:
        log.info("swept", num_ready=swept.num_expired, num_quarantined=swept.num_quarantined)
    clear_way()
    dispatcher.dispatch()
