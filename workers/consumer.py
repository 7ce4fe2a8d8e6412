"""A worker process: assembles engine, pipeline and housekeeping, and hangs them on Celery's consumer.

A message is acknowledged (late) when the task returns: by then everything it named is committed, given
back, quarantined, or somebody else's.
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from celery import signals
from celery.exceptions import Reject

from db.ledger import LeasePolicy
from db.session import make_engine
from scoring.errors import DatabaseUnavailableError, FatalError, InvalidInputError, ScorefoldError
from workers.app import BrokerPublisher, key_kinds, make_app, nightly_queue, shard_queue, submit_queue
from workers.batcher import Batcher
from workers.dispatch import Dispatcher, dispatch_policy
from workers.doors.desk import Desk
from workers.doors.gate import Gate
from workers.doors.stream import open_reader, stream_name
from workers.doors.task import take_task
from workers.events import NIGHTLY_TASK, SCORE_TASK, SUBMIT_TASK, decode_work
from workers.health import forget_pulse, pulse_folder
from workers.housekeeping import Rounds, Watchdog, repair
from workers.metrics import WorkerCollector, served
from workers.nightly import run_nightly
from workers.periods import current_period
from workers.pipeline import Pipeline
from workers.places import database_url
from workers.roster import RosterKeeper
from workers.telemetry import get_logger
from workers.writer import patiently

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from celery import Celery
    from sqlalchemy import Engine as Database

    from scoring.engine import Engine
    from workers.doors.stream import StreamReader
    from workers.settings import NightSettings, Settings

log = get_logger("consumer")

_START_PATIENCE_S = 120.0
#: Before a message that could not be taken goes back to its list.
_PAUSE_S = 5.0


@dataclass(frozen=True, slots=True)
class Station:
    """Everything one worker process holds."""

    database: Database
    batcher: Batcher
    pipeline: Pipeline
    gate: Gate
    desk: Desk
    rounds: tuple[Rounds, ...]
    reader: StreamReader | None
    pulses: Path
    collector: WorkerCollector

    def open(self) -> None:
        """Start the housekeeping and the stream's reader."""
        for one in self.rounds:
            one.start()
        if self.reader is not None:
            self.reader.start()

    def stop_taking(self) -> None:
        """Take nothing new in hand; does not wait."""
        self.pipeline.stop()
        if self.reader is not None:
            self.reader.stop()

    def close(self) -> None:
        """Give back what is in hand, so that nobody waits for a lease to end."""
        for one in self.rounds:
            one.stop()
        if self.reader is not None:
            self.reader.join()
        try:
            if num_given_back := self.pipeline.give_back_held():
                log.info("gave_back", num_submissions=num_given_back)
        except ScorefoldError as error:
            log.warning("give_back_failed", reason=str(error))
        self.database.dispose()
        forget_pulse(self.pulses)


def lease_policy(settings: Settings) -> LeasePolicy:
    """The lease as set."""
    return LeasePolicy(
        lease_s=settings.worker.lease_s,
        backoff_s=settings.worker.backoff_s,
        max_solo_attempts=settings.worker.max_solo_attempts,
    )


def open_ledger(settings: Settings) -> Database:
    """A worker's connections; frozen in the middle of a transaction, it loses its rows with its lease."""
    return make_engine(
        database_url(settings),
        # A thread each for the tasks, the repairs, the leases, the stream and the gate, and one to spare.
        pool_size=settings.worker.num_task_threads + 5,
        idle_timeout_s=settings.worker.lease_s,
    )


def run_worker(settings: Settings, engine: Engine, *, shards: Sequence[int] | None = None) -> int:
    """Serve until told to stop; returns the exit code.

    Args:
        settings: all settings.
        engine: a loaded engine; scorers are brought in from the registry.
        shards: queues to listen to; all by default. Correctness never depends on it.
    """
    database = open_ledger(settings)
    publisher = BrokerPublisher(make_app(settings), settings)
    kinds = key_kinds(settings) | {stream_name(settings): "stream"}
    clear_way = partial(publisher.clear_way, database, kinds)
    gate = Gate(database, publisher.put_back, clear_way=clear_way)
    station = _assemble(settings, database, publisher, gate, engine, clear_way)
    app = make_app(settings, gate=gate)
    _offer_tasks(app, station, settings.night)
    _follow_signals(station)
    shards = range(settings.broker.num_shards) if shards is None else shards
    worker = app.Worker(
        hostname=f"scorefold-{os.getpid()}@{socket.gethostname()}",
        pool_cls="threads",
        concurrency=settings.worker.num_task_threads,
        queues=[
            *(shard_queue(settings, shard) for shard in shards),
            nightly_queue(settings),
            submit_queue(settings),
        ],
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
    )
    with served(settings.telemetry.metrics_address, station.collector):
        worker.start()
    return int(worker.exitcode or 0)


def run_beat(settings: Settings) -> None:
    """Tick until told to stop; any number of beats may tick."""
    make_app(settings).Beat(quiet=True).run()


def _assemble(
    settings: Settings,
    database: Database,
    publisher: BrokerPublisher,
    gate: Gate,
    engine: Engine,
    clear_way: Callable[[], int],
) -> Station:
    from scoring.artifacts import ArtifactStore  # brings torch in, like the engine

    batcher = Batcher(engine, max_recent_answers=settings.engine.max_recent_answers)
    batcher.start()
    keeper = RosterKeeper(database, batcher, ask_store=ArtifactStore(settings.artifact_url()).check)
    # A worker that is started again in the middle of an outage waits like those that run.
    patiently(keeper.refresh, give_up_after_s=_START_PATIENCE_S)
    policy = lease_policy(settings)
    pipeline = Pipeline(database, batcher, keeper, worker=_name(), policy=policy)
    dispatcher = Dispatcher(database, publisher, dispatch_policy(settings))
    dog = Watchdog(
        batcher,
        gate,
        stall_s=settings.worker.stall_s,
        num_hands=settings.worker.num_task_threads,
        broker_answers=publisher.answers,
    )
    mend = partial(repair, database, dispatcher, keeper, policy=policy, clear_way=clear_way)
    rounds = (
        Rounds("watchdog", partial(dog.look, pulse_folder(settings)), interval_s=1.0),
        Rounds("heartbeat", pipeline.renew, interval_s=policy.lease_s / 4),
        Rounds("repair", mend, interval_s=settings.worker.sweep_interval_s),
    )
    desk = Desk(database, settings.intake)
    reader = open_reader(settings, database, desk, name=_name()) if settings.intake.read_stream else None
    collector = WorkerCollector(batcher, pipeline, keeper)
    return Station(database, batcher, pipeline, gate, desk, rounds, reader, pulse_folder(settings), collector)


def _offer_tasks(app: Celery, station: Station, night: NightSettings) -> None:
    def score(**payload: Any) -> None:
        try:
            with station.gate.held():
                station.pipeline.process(decode_work(payload).ids)
        except InvalidInputError as error:
            log.warning("message_refused", reason=str(error))
        except FatalError as error:
            _end(error)
        except ScorefoldError as error:
            # The hint is spent, the ledger is not: the repair round sends another.
            log.warning("message_dropped", reason=str(error))

    def submit(task: Any, /, **payload: Any) -> None:
        with _the_only_copy(), station.gate.held():
            take_task(station.desk, payload, message_id=task.request.id)

    def nightly() -> None:
        with station.gate.held():
            log.debug("nightly_tick")
            login = None if night.database_url is None else night.database_url.get_secret_value()
            run_nightly(station.database, period=current_period(night), database_url=login)

    app.task(name=SCORE_TASK, shared=False)(score)
    app.task(name=SUBMIT_TASK, shared=False, bind=True)(submit)
    app.task(name=NIGHTLY_TASK, shared=False)(nightly)


@contextmanager
def _the_only_copy() -> Iterator[None]:
    """Whatever goes wrong inside, the message goes back to its list: no hint, it is all there is."""
    try:
        yield
    except DatabaseUnavailableError as error:
        raise Reject(str(error), requeue=True) from error
    except FatalError as error:
        # Not acknowledged, like that of any process that ends.
        _end(error)
    except Exception as error:
        # Celery would acknowledge it as failed. No traceback: it may quote what a student wrote.
        log.error("message_put_back", reason=type(error).__name__)  # noqa: TRY400
        time.sleep(_PAUSE_S)
        raise Reject(type(error).__name__, requeue=True) from error


def _end(error: FatalError) -> NoReturn:
    """End this process as no other one could go on either."""
    log.critical("worker_ends", reason=str(error), exit_code=error.exit_code)
    os._exit(error.exit_code)


def _follow_signals(station: Station) -> None:
    def ready(**_: Any) -> None:
        station.open()
        log.info("worker_ready", engine=station.batcher.engine_name)

    def shutting_down(**_: Any) -> None:
        station.stop_taking()

    def shut_down(**_: Any) -> None:
        station.close()
        log.info("worker_stopped")

    signals.worker_ready.connect(ready, weak=False)
    signals.worker_shutting_down.connect(shutting_down, weak=False)
    signals.worker_shutdown.connect(shut_down, weak=False)


def _name() -> str:
    return f"{socket.gethostname()}/{os.getpid()}"
