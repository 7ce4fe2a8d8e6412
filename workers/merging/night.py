"""The nightly run: clouds, distances, plans, trials and proposals, under one lease; a dead one goes on.

Clouds and distances are kept as they come, the plan once it is made, each proposal in its own transaction.
"""

from __future__ import annotations

import os
import socket
import time
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from db import clouds, gw_runs, merges, pins, runs
from db.leases import LeaseLostError
from scoring.artifacts import ArtifactStore
from scoring.backbone import Backbone
from scoring.engines.torch import pick_device, settle_process
from scoring.errors import PermanentError
from scoring.merging.distances import GwSettings
from workers.evaluating import plain
from workers.holding import held, let_go
from workers.merging.keeping import keep_proposals
from workers.merging.neighbours import Comparison, dissimilarities, measure, settings_key
from workers.merging.planning import Plan, Planned, pairs_needed, plan
from workers.merging.proposing import Proposed, conclude
from workers.merging.sampling import Sampler
from workers.merging.standing import Readers, StandingItem, standing_items
from workers.merging.trial import Laboratory
from workers.telemetry import get_logger
from workers.writer import database_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from sqlalchemy import Engine as Database

    from db.gw_runs import GwRunClaim
    from scoring.evaluation.policy import Policy
    from scoring.merging.fusing import FusionConfig
    from workers.merging.neighbours import Neighbourhood
    from workers.merging.trial import Trial
    from workers.settings import Settings

log = get_logger("merging")

#: A run whose process died so often is given up: it would end the next one too.
MAX_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Night:
    """What a run came to; `proposals` are those of this process."""

    gw_run_id: int
    period: str
    state: str
    proposals: tuple[Proposed, ...]
    report: dict[str, Any]
    error: str | None = None


class MergeNight:
    """Runs the night's merging for one registry; the backbone is loaded once the run is claimed."""

    def __init__(
        self,
        database: Database,
        settings: Settings,
        policy: Policy,
        *,
        fusion: FusionConfig | None = None,
        num_threads: int = 1,
    ) -> None:
        self._database = database
        self._settings = settings
        self._policy = policy
        self._fusion = fusion
        self._num_threads = num_threads
        self._worker = f"{socket.gethostname()}/{os.getpid()}"

    def run(
        self,
        period: str,
        *,
        trigger: str = "manual",
        progress: Callable[[str, int, int], None] = lambda _what, _done, _total: None,
    ) -> Night | None:
        """Do a period's merging, or go on with a run whose process died; None where nothing is to be done.

        Args:
            period: at most one run is made of it.
            trigger: schedule or manual.
            progress: told (what, done, total).

        Raises:
            DatabaseUnavailableError: Postgres does not answer; a later run goes on from here.
            StoreUnavailableError: the artifact store does not answer; likewise.
        """
        with database_errors(), self._database.begin() as connection:
            claimed = gw_runs.claim(
                connection,
                period=period,
                trigger=trigger,
                worker=self._worker,
                lease_s=self._settings.worker.lease_s,
            )
            if claimed is not None:
                runs.begin(connection, kind=gw_runs.KIND, period=claimed.period)
        if claimed is None:
            return None
        log.info("merging_begun", run=claimed.gw_run_id, period=claimed.period, attempt=claimed.num_attempts)
        try:
            if claimed.num_attempts > MAX_ATTEMPTS:
                return self._give_up(claimed, f"its processes ended {MAX_ATTEMPTS} times in the middle")
            with held(self._database, claimed.lease, lease_s=self._settings.worker.lease_s) as check:
                return self._attempt(claimed, check, progress)
        except LeaseLostError as error:
            log.warning("merging_lost", run=claimed.gw_run_id, reason=str(error))
            return None
        except PermanentError as error:
            return self._give_up(claimed, str(error))
        except BaseException as error:
            let_go(self._database, claimed.lease, error)
            raise

    def _attempt(
        self, claimed: GwRunClaim, check: Callable[[], None], progress: Callable[[str, int, int], None]
    ) -> Night:
        started = time.monotonic()
        kept = keep_proposals(self._database, self._settings, self._policy.merging)
        items, left_out = standing_items(self._database, self._store, self._readers.backbone)
        self._note_settings(claimed)
        near, report = self._compared(claimed, items, check, progress)
        planned = self._planned(claimed, near, items)
        proposals = list(self._tried(claimed, planned, near, items, check, progress))
        report |= {
            "left_out": {**left_out, **report.pop("left_out", {}), **planned.left_out},
            "kept": asdict(kept),
            "num_items": len(items),
            "num_tried": len(planned.plans),
            "seconds": round(time.monotonic() - started, 2),
        }
        with database_errors(), self._database.begin() as connection:
            report["num_clouds_dropped"] = clouds.drop_old_clouds(connection)
            gw_runs.note(connection, claimed, report=report)
            gw_runs.finish(connection, claimed)
            runs.end(connection, kind=gw_runs.KIND, period=claimed.period, report=report)
        log.info("merging_done", run=claimed.gw_run_id, num_proposals=len(proposals))
        return Night(claimed.gw_run_id, claimed.period, "done", tuple(proposals), report)

    def _compared(
        self,
        claimed: GwRunClaim,
        items: Mapping[str, StandingItem],
        check: Callable[[], None],
        progress: Callable[[str, int, int], None],
    ) -> tuple[Neighbourhood, dict[str, Any]]:
        rules = self._policy.merging
        started = time.monotonic()
        sampler = Sampler(
            self._database, claimed, self._readers, policy=rules, settings=self._gw, progress=progress
        )
        sampling = sampler.refresh(items, check)
        clouds_s = round(time.monotonic() - started, 2)
        progress("distances", 0, 1)
        with database_errors(), self._database.connect() as connection:
            needed = pairs_needed(items, pins.pins(connection))
        near = measure(
            self._database,
            claimed,
            items,
            how=Comparison(
                settings=self._gw,
                criterion=rules.criterion,
                always=needed,
                num_processes=self._num_threads,
                device=self._device if self._device != "cpu" else None,
            ),
            readers=self._readers,
            check=check,
        )
        progress("distances", 1, 1)
        return near, {**near.report, **asdict(sampling), "clouds_s": clouds_s}

    def _planned(
        self, claimed: GwRunClaim, near: Neighbourhood, items: Mapping[str, StandingItem]
    ) -> Planned:
        """The plan that an earlier attempt made, or tonight's; kept before anything follows from it."""
        if "plans" in claimed.report:
            told = claimed.report["plans"]
            return Planned(tuple(_plan_from(one) for one in told), claimed.report.get("not_planned", {}))
        with database_errors(), self._database.connect() as connection:
            planned = plan(
                near,
                items,
                pins=pins.pins(connection),
                tried=merges.tried(connection),
                pending=[names for _, _, names in merges.pending(connection)],
                policy=self._policy.merging,
            )
        with database_errors(), self._database.begin() as connection:
            told = plain([asdict(one) for one in planned.plans])
            gw_runs.note(connection, claimed, report={"plans": told, "not_planned": planned.left_out})
        return planned

    def _tried(
        self,
        claimed: GwRunClaim,
        planned: Planned,
        near: Neighbourhood,
        items: Mapping[str, StandingItem],
        check: Callable[[], None],
        progress: Callable[[str, int, int], None],
    ) -> Iterator[Proposed]:
        with database_errors(), self._database.connect() as connection:
            done = merges.proposed_in(connection, claimed.gw_run_id)
        laboratory = Laboratory(
            self._database, self._store, self._readers, policy=self._policy, config=self._fusion
        )
        for number, one in enumerate(planned.plans):
            progress("merging " + " + ".join(one.items), number, len(planned.plans))
            if one.items in done or not set(one.items) <= items.keys():
                continue
            check()
            try:
                trial = laboratory.attempt(one, items, check)
                proposed = self._concluded(claimed, trial, near, items)
            except PermanentError as error:
                planned.left_out[" + ".join(one.items)] = str(error)
                log.warning("merge_not_tried", items=list(one.items), reason=str(error))
                continue
            yield proposed
        progress("merging", len(planned.plans), len(planned.plans))

    def _concluded(
        self, claimed: GwRunClaim, trial: Trial, near: Neighbourhood, items: Mapping[str, StandingItem]
    ) -> Proposed:
        with database_errors(), self._database.connect() as connection:
            chosen = clouds.clouds_of_run(connection, claimed.gw_run_id, item_ids=trial.plan.items)
        others = dissimilarities(self._database, chosen, items, self._readers)
        with database_errors(), self._database.begin() as connection:
            return conclude(connection, claimed, trial, near, others=others, policy=self._policy.merging)

    def _note_settings(self, claimed: GwRunClaim) -> None:
        told = {
            "gw": plain(asdict(self._gw)),
            "settings_key": settings_key(self._gw),
            "policy": self._policy.merging.model_dump(),
            "backbone": self._readers.backbone.revision,
        }
        with database_errors(), self._database.begin() as connection:
            gw_runs.note(connection, claimed, settings=told)

    @property
    def _gw(self) -> GwSettings:
        return GwSettings(num_answers=self._policy.merging.num_answers, seed=self._policy.evidence.seed)

    def _give_up(self, claimed: GwRunClaim, error: str) -> Night:
        log.warning("merging_failed", run=claimed.gw_run_id, reason=error)
        with database_errors(), self._database.begin() as connection:
            gw_runs.finish(connection, claimed, error=error)
            runs.end(connection, kind=gw_runs.KIND, period=claimed.period, report={"error": error})
        return Night(claimed.gw_run_id, claimed.period, "failed", (), {}, error)

    @cached_property
    def _store(self) -> ArtifactStore:
        return ArtifactStore(self._settings.artifact_url())

    @cached_property
    def _readers(self) -> Readers:
        settle_process(self._num_threads)
        return Readers(Backbone.load(self._settings.backbone.name, device=self._device))

    @cached_property
    def _device(self) -> str:
        return pick_device(self._settings.engine.device)


def _plan_from(told: Mapping[str, Any]) -> Plan:
    return Plan(
        kind=told["kind"],
        items=tuple(told["items"]),
        distance=told["distance"],
        distance_rank=told["distance_rank"],
        alternatives=tuple((tuple(items), distance) for items, distance in told["alternatives"]),
    )
