"""What a worker does beside scoring: prolong leases, repair losses, follow promotions, watch itself."""

from __future__ import annotations

import os
import random
import threading
from typing import TYPE_CHECKING

from db import ledger
from scoring.errors import EngineStalledError, TransientError
from workers.telemetry import get_logger
from workers.writer import database_errors

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine as Database

    from db.ledger import LeasePolicy
    from workers.batcher import Batcher
    from workers.dispatch import Dispatcher
    from workers.pipeline import Pipeline
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


def heartbeat(pipeline: Pipeline, batcher: Batcher, *, stall_s: float) -> None:
    """Prolong leases, unless the engine stands still: then end the process, and the work goes to others."""
    if batcher.stalled_s() > stall_s:
        log.error("engine_stalled", stalled_s=round(batcher.stalled_s()))
        os._exit(EngineStalledError.exit_code)
    pipeline.renew()


def repair(database: Database, dispatcher: Dispatcher, keeper: RosterKeeper, *, policy: LeasePolicy) -> None:
    """Follow promotions, take back what vanished workers held, and send lost messages again."""
    keeper.follow()
    with database.begin() as connection:
        swept = ledger.sweep(connection, policy=policy)
    if swept.num_expired or swept.num_quarantined:
        log.info("swept", num_ready=swept.num_expired, num_quarantined=swept.num_quarantined)
    dispatcher.dispatch()
