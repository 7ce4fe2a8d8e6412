"""A worker process: assembles engine, pipeline and housekeeping, and hangs them on Celery's consumer.

A message is acknowledged (late) when the task returns: by then everything it named is committed, given
back, quarantined, or somebody else's.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from celery import signals

from db.ledger import LeasePolicy
from db.session import make_engine
from scoring.errors import FatalError, InvalidInputError, ScorefoldError
from workers.app import BrokerPublisher, make_app, nightly_queue, shard_queue
from workers.batcher import Batcher
from workers.dispatch import Dispatcher, dispatch_policy
from workers.events import NIGHTLY_TASK, SCORE_TASK, decode_work
from workers.housekeeping import Rounds, heartbeat, repair
from workers.nightly import run_nightly
from workers.pipeline import Pipeline
from workers.places import database_url
from workers.roster import RosterKeeper
from workers.telemetry import get_logger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from celery import Celery
    from sqlalchemy import Engine as Database

    from scoring.engine import Engine
    from workers.settings import Settings

log = get_logger("consumer")


@dataclass(frozen=True, slots=True)
class Station:
    """Everything one worker process holds."""

    database: Database
    batcher: Batcher
    pipeline: Pipeline
    rounds: tuple[Rounds, ...]

    def open(self) -> None:
        """Start the engine's thread and the housekeeping."""
        for one in self.rounds:
            one.start()

    def close(self) -> None:
        """Give back what is in hand, so that nobody waits for a lease to end."""
        for one in self.rounds:
            one.stop()
        try:
            if num_given_back := self.pipeline.give_back_held():
                log.info("gave_back", num_submissions=num_given_back)
        except ScorefoldError as error:
            log.warning("give_back_failed", reason=str(error))
        self.database.dispose()


def lease_policy(settings: Settings) -> LeasePolicy:
    """The lease as set."""
    return LeasePolicy(
        lease_s=settings.worker.lease_s,
        backoff_s=settings.worker.backoff_s,
        max_solo_attempts=settings.worker.max_solo_attempts,
    )


def run_worker(settings: Settings, engine: Engine, *, shards: Sequence[int] | None = None) -> int:
    """Serve until told to stop; returns the exit code.

    Args:
        settings: all settings.
        engine: a loaded engine; scorers are brought in from the registry.
        shards: queues to listen to; all by default. Correctness never depends on it.
    """
    app = make_app(settings)
    station = _assemble(settings, app, engine)
    _offer_tasks(app, station)
    _follow_signals(station)
    shards = range(settings.broker.num_shards) if shards is None else shards
    worker = app.Worker(
        hostname=f"scorefold-{os.getpid()}@{socket.gethostname()}",
        pool_cls="threads",
        concurrency=settings.worker.num_task_threads,
        queues=[*(shard_queue(settings, shard) for shard in shards), nightly_queue(settings)],
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
    )
    worker.start()
    return int(worker.exitcode or 0)


def run_beat(settings: Settings) -> None:
    """Tick until told to stop; any number of beats may tick."""
    make_app(settings).Beat(quiet=True).run()


def _assemble(settings: Settings, app: Celery, engine: Engine) -> Station:
    # A thread each for the tasks, the heartbeat and the repairs, and one to spare.
    database = make_engine(database_url(settings), pool_size=settings.worker.num_task_threads + 3)
    batcher = Batcher(engine)
    batcher.start()
    keeper = RosterKeeper(database, batcher)
    keeper.refresh()
    policy = lease_policy(settings)
    name = f"{socket.gethostname()}/{os.getpid()}"
    pipeline = Pipeline(database, batcher, keeper, worker=name, policy=policy)
    dispatcher = Dispatcher(database, BrokerPublisher(app, settings), dispatch_policy(settings))
    beat = partial(heartbeat, pipeline, batcher, stall_s=settings.worker.stall_s)
    mend = partial(repair, database, dispatcher, keeper, policy=policy)
    rounds = (
        Rounds("heartbeat", beat, interval_s=policy.lease_s / 4),
        Rounds("repair", mend, interval_s=settings.worker.sweep_interval_s),
    )
    return Station(database, batcher, pipeline, rounds)


def _offer_tasks(app: Celery, station: Station) -> None:
    def score(**payload: Any) -> None:
        try:
            station.pipeline.process(decode_work(payload).ids)
        except InvalidInputError as error:
            log.warning("message_refused", reason=str(error))
        except FatalError as error:
            log.critical("worker_ends", reason=str(error), exit_code=error.exit_code)
            os._exit(error.exit_code)
        except ScorefoldError as error:
            # The hint is spent, the ledger is not: the repair round sends another.
            log.warning("message_dropped", reason=str(error))

    def nightly() -> None:
        run_nightly(station.database)

    app.task(name=SCORE_TASK, shared=False)(score)
    app.task(name=NIGHTLY_TASK, shared=False)(nightly)


def _follow_signals(station: Station) -> None:
    def ready(**_: Any) -> None:
        station.open()
        log.info("worker_ready", engine=station.batcher.engine_name)

    def shutting_down(**_: Any) -> None:
        station.pipeline.stop()

    def shut_down(**_: Any) -> None:
        station.close()
        log.info("worker_stopped")

    signals.worker_ready.connect(ready, weak=False)
    signals.worker_shutting_down.connect(shutting_down, weak=False)
    signals.worker_shutdown.connect(shut_down, weak=False)
