"""Retraining: items that are due are claimed one after another, trained, judged, and what follows is done.

Any number of processes may do this at once, and any may be killed at any moment: an item belongs to who holds
its lease, artifacts are written before anybody knows of them, and scorer, aliases and verdict come in one
transaction that only the holder of the lease can make.
"""

from __future__ import annotations

import os
import socket
from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING

from db import evaluations, merges, readable, registry, retraining, runs, trainings
from db.leases import LeaseLostError
from scoring.artifacts import ArtifactStore
from scoring.backbone import Backbone
from scoring.engines.torch import pick_device, settle_process
from scoring.errors import InvalidInputError, PermanentError
from workers.challenge import Arena, Defender, challenge
from workers.dueness import standings
from workers.evaluating import plain
from workers.holding import held, let_go
from workers.lessons import lessons_of, told_data
from workers.nightly import RETRAIN
from workers.recipes import RECIPE, recorded
from workers.roster import spec_of
from workers.succession import Retrained, conclude
from workers.telemetry import get_logger
from workers.writer import database_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from sqlalchemy import Connection
    from sqlalchemy import Engine as Database

    from db.registry import Serving
    from db.retraining import RunClaim
    from scoring.config import TrainingConfig
    from scoring.evaluation.policy import Policy
    from scoring.training.fitting import Epoch
    from workers.lessons import History
    from workers.settings import Settings

log = get_logger("retraining")


#: A run whose process has died so often is given up: it would end the next one too.
MAX_ATTEMPTS = 3


class Retrainer:
    """Retrains items of one registry; the backbone is loaded once, when the first item is claimed."""

    def __init__(
        self,
        database: Database,
        settings: Settings,
        policy: Policy,
        *,
        config: TrainingConfig,
        max_epochs: int | None = None,
        history: History | None = None,
        num_threads: int = 2,
    ) -> None:
        self._database = database
        self._settings = settings
        self._policy = policy
        self._config = config
        self._max_epochs = max_epochs
        self._history = history
        self._num_threads = num_threads
        self._worker = f"{socket.gethostname()}/{os.getpid()}"

    def run_due(
        self, period: str, *, progress: Callable[[str, int, int], None] | None = None
    ) -> Iterator[Retrained]:
        """Retrain what is due, and what others began and left, once a period.

        Raises:
            DatabaseUnavailableError: Postgres does not answer; a later run goes on from here.
            StoreUnavailableError: the artifact store does not answer; likewise.
        """
        with database_errors(), self._database.begin() as connection:
            runs.begin(connection, kind=RETRAIN, period=period)
            triggers = retraining.abandoned(connection)
            # An item may have lost its champion since its training was begun: there is nothing to go on with.
            for item_id in triggers.keys() - _champions(connection).keys():
                del triggers[item_id]
                retraining.abandon(connection, item_id)
        for one in standings(self._database, self._policy):
            if one.trigger is not None:
                triggers.setdefault(one.item_id, one.trigger)
        yield from self.run(triggers, period, progress=progress)
        with database_errors(), self._database.begin() as connection:
            report = retraining.summary(connection, period)
            if not report.get("running"):
                runs.end(connection, kind=RETRAIN, period=period, report=report)

    def run(
        self,
        triggers: Mapping[str, str],
        period: str,
        *,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> Iterator[Retrained]:
        """Retrain these items, each for its trigger, unless somebody is at it or was in this period.

        Raises:
            InvalidInputError: an item is not known, or has no champion to be held against.
        """
        with database_errors(), self._database.connect() as connection:
            unserved = triggers.keys() - _champions(connection).keys()
        if unserved:
            raise InvalidInputError(
                f"item {min(unserved)}: has no champion to be held against; `train` it first"
            )
        for item_id in sorted(triggers):
            claimed = self._claim(item_id, period, triggers[item_id])
            done = None if claimed is None else self._retrain(item_id, claimed, progress)
            if done is not None:
                yield done

    def _claim(self, item_id: str, period: str, trigger: str) -> RunClaim | None:
        with database_errors(), self._database.begin() as connection:
            return retraining.claim(
                connection,
                item_id,
                period=period,
                trigger=trigger,
                worker=self._worker,
                lease_s=self._settings.worker.lease_s,
            )

    def _retrain(
        self, item_id: str, claimed: RunClaim, progress: Callable[[str, int, int], None] | None
    ) -> Retrained | None:
        log.info("retraining_begun", item=item_id, run=claimed.training_run_id, trigger=claimed.trigger)
        if claimed.num_attempts > MAX_ATTEMPTS:
            return self._give_up(item_id, claimed, f"its processes ended {MAX_ATTEMPTS} times in the middle")
        try:
            with held(self._database, claimed.lease, lease_s=self._settings.worker.lease_s) as check:
                return self._attempt(item_id, claimed, _told(progress, item_id, check))
        except LeaseLostError as error:
            # Whoever holds it now concludes it.
            log.warning("retraining_lost", item=item_id, reason=str(error))
            return None
        except PermanentError as error:
            return self._give_up(item_id, claimed, str(error))
        except BaseException as error:
            let_go(self._database, claimed.lease, error)
            raise

    def _attempt(self, item_id: str, claimed: RunClaim, progress: Callable[[Epoch], None]) -> Retrained:
        with database_errors(), self._database.begin() as connection:
            item = spec_of(registry.load_items(connection)[item_id])
            defender = _defender(connection, item_id)
            lessons = lessons_of(connection, item, self._history)
            twice = evaluations.double_reads(connection, item_id)
            about = told_data(lessons, self._history)
            chosen = self._recipe(connection, item_id)
            config = chosen.limited(self._max_epochs)
            told = plain(asdict(config))
            if config != chosen:
                told[RECIPE] = plain(asdict(chosen))
            retraining.record_data(connection, claimed, lessons.folds, config=told, data=about)
        challenger = challenge(
            item,
            lessons,
            defender,
            double_reads=twice,
            arena=self._arena,
            config=config,
            progress=progress,
        )
        with database_errors(), self._database.begin() as connection:
            return conclude(connection, claimed, challenger, defender, self._policy)

    def _recipe(self, connection: Connection, item_id: str) -> TrainingConfig:
        """As the item's own scorer was trained: what somebody chose for an item stays chosen."""
        own = {one.item_id: one.own for one in merges.served_items(connection)}.get(item_id)
        found = None if own is None else recorded(trainings.recipe_of(connection, own))
        return found or self._config

    def _give_up(self, item_id: str, claimed: RunClaim, error: str) -> Retrained:
        log.warning("retraining_failed", item=item_id, run=claimed.training_run_id, reason=error)
        with database_errors(), self._database.begin() as connection:
            retraining.give_up(connection, claimed, error)
        return Retrained(item_id, claimed.trigger, claimed.training_run_id, error=error)

    @cached_property
    def _arena(self) -> Arena:
        settle_process(self._num_threads)
        device = pick_device(self._settings.engine.device)
        return Arena(
            backbone=Backbone.load(self._settings.backbone.name, device=device),
            store=ArtifactStore(self._settings.artifact_url()),
            policy=self._policy,
        )


def _champions(connection: Connection) -> dict[str, Serving]:
    serving = registry.snapshot(connection).serving
    return {one.item_id: one for one in serving if one.role == "champion"}


def _defender(connection: Connection, item_id: str) -> Defender:
    champion = _champions(connection)[item_id]
    learned = readable.learned_from(connection, champion.scorer_id)
    return Defender(champion.scorer_id, champion.scorer_key, learned)


def _told(
    progress: Callable[[str, int, int], None] | None, item_id: str, check: Callable[[], None]
) -> Callable[[Epoch], None]:
    def told(epoch: Epoch) -> None:
        check()
        if progress is not None:
            progress(item_id, epoch.number, epoch.max_epochs)

    return told
