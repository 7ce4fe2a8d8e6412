"""The heart of a worker: a message's ids go in; claimed, scored and committed submissions come out.

Knows no broker: the consumer acknowledges when `process` returns. What is lost on the way comes back,
because Postgres knows what is done.
"""

from __future__ import annotations

import threading
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from db import ledger
from scoring.errors import (
    DatabaseUnavailableError,
    FatalError,
    PermanentError,
    TransientError,
)
from workers.marking import mark
from workers.telemetry import get_logger
from workers.turnstile import Turnstile
from workers.writer import database_errors, patiently

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from sqlalchemy import Engine as Database

    from db.ledger import Claim, LeasePolicy
    from workers.batcher import Batcher
    from workers.marking import Marked
    from workers.roster import Roster, RosterKeeper

log = get_logger("pipeline")

#: How long an item without a working scorer waits before it is tried again.
_UNSERVED_DELAY_S = 15.0


@dataclass(slots=True)
class PipelineTally:
    """Submissions since the start, by how they left this worker's hands."""

    num_finished: int = 0
    num_given_back: int = 0
    num_failed: int = 0
    num_lost: int = 0


class Pipeline:
    """Claim, score, commit; then the message may be settled."""

    def __init__(
        self,
        database: Database,
        batcher: Batcher,
        keeper: RosterKeeper,
        *,
        worker: str,
        policy: LeasePolicy,
    ) -> None:
        self._database = database
        self._batcher = batcher
        self._keeper = keeper
        self._worker = worker
        self._policy = policy
        self._turnstile = Turnstile()
        self._held: dict[UUID, Claim] = {}
        self._stopping = threading.Event()
        self.tally = PipelineTally()

    def process(self, ids: Sequence[int]) -> int:
        """Score what a message names and is still to do; returns how many submissions were finished.

        Returns only when nothing of this message is left in hand: committed, given back or quarantined.

        Raises:
            FatalError: this process cannot go on; its claims are given back first where possible.
        """
        started = time.monotonic()
        with self._turnstile.shared():
            claimed = self._claim(ids, attempt=1)
            num_finished = self._settle(claimed)
        if len(claimed) < len(ids):
            num_finished += self._process_suspects(ids)
        log.debug("message_done", num_ids=len(ids), num_finished=num_finished, s=time.monotonic() - started)
        return num_finished

    def renew(self) -> None:
        """Prolong the leases of all claims in hand; called by the heartbeat."""
        tokens = list(self._held)
        if not tokens:
            return
        with database_errors(), self._database.begin() as connection:
            kept = ledger.renew(connection, tokens, policy=self._policy)
        for token in set(tokens) - kept:
            if token in self._held:
                log.warning("lease_lost", num_submissions=len(self._held[token]))

    def num_held(self) -> int:
        """Submissions in hand."""
        return sum(len(claimed) for claimed in list(self._held.values()))

    def stop(self) -> None:
        """Take nothing new in hand; waits for Postgres end early."""
        self._stopping.set()

    def give_back_held(self) -> int:
        """Return what is still in hand, uncounted, so that others need not wait for the lease's end."""
        held = list(self._held.values())
        with database_errors(), self._database.begin() as connection:
            for claimed in held:
                ledger.give_back(connection, claimed, reason="worker stopped")
        return sum(len(claimed) for claimed in held)

    def _process_suspects(self, ids: Sequence[int]) -> int:
        num_finished = 0
        for attempt in (2, 3):
            while not self._stopping.is_set():
                with self._turnstile.alone():
                    claimed = self._claim(ids, attempt=attempt)
                    if not len(claimed):
                        break
                    num_finished += self._settle(claimed)
        return num_finished

    def _claim(self, ids: Sequence[int], *, attempt: int) -> Claim:
        def step() -> Claim:
            with self._database.begin() as connection:
                return ledger.claim(
                    connection, ids, worker=self._worker, policy=self._policy, attempt=attempt
                )

        started = time.monotonic()
        claimed = patiently(step, give_up_after_s=60.0, stop=self._stopping.is_set)
        if len(claimed):
            self._held[claimed.token] = claimed
            log.debug("claimed", num_submissions=len(claimed), s=time.monotonic() - started)
        return claimed

    def _settle(self, claimed: Claim) -> int:
        if not len(claimed):
            return 0
        try:
            return self._score_and_commit(claimed)
        except DatabaseUnavailableError as error:
            # The claim stays leased; the sweep brings it back once Postgres is there again.
            log.warning("claim_left_to_sweep", num_submissions=len(claimed), error=str(error))
        except TransientError as error:
            log.warning("claim_given_back", num_submissions=len(claimed), error=str(error))
            self._give_back(claimed, reason=str(error), delay_s=5.0)
        except FatalError as error:
            self._give_back(claimed, reason=str(error), delay_s=0.0)
            raise
        except PermanentError as error:
            self._refuse(claimed, type(error).__name__, str(error))
        except Exception as error:  # noqa: BLE001 (a bug must not lose or loop a submission)
            self._refuse(claimed, "error", f"{type(error).__name__} at {_place(error)}")
        finally:
            self._held.pop(claimed.token, None)
        return 0

    def _score_and_commit(self, claimed: Claim) -> int:
        started = time.monotonic()
        marked = mark(claimed, self._roster(), self._batcher)
        scored = time.monotonic()
        num_finished = self._commit(claimed, marked)
        log.debug("settled", score_s=scored - started, commit_s=time.monotonic() - scored)
        return num_finished

    def _roster(self) -> Roster:
        # Asked anew for each claim: a process that stood still must not score by who served before.
        with database_errors():
            self._keeper.follow()
        return self._keeper.current

    def _commit(self, claimed: Claim, marked: Marked) -> int:
        def step() -> int:
            with self._database.begin() as connection:
                if marked.unserved:
                    ledger.give_back_some(
                        connection,
                        claimed,
                        marked.unserved,
                        reason="no working scorer",
                        delay_s=_UNSERVED_DELAY_S,
                    )
                return ledger.finish(connection, claimed.token, marked.finished, marked.sheet.columns)

        num_finished = patiently(step, give_up_after_s=60.0, stop=self._stopping.is_set)
        self.tally.num_finished += num_finished
        self.tally.num_given_back += len(marked.unserved)
        self.tally.num_lost += len(marked.finished) - num_finished
        if num_finished < len(marked.finished):
            log.warning("lease_was_lost", num_lost=len(marked.finished) - num_finished)
        return num_finished

    def _refuse(self, claimed: Claim, reason: str, detail: str) -> None:
        self.tally.num_failed += len(claimed)
        log.error("attempt_failed", num_submissions=len(claimed), reason=reason, detail=detail)

        def step() -> None:
            with self._database.begin() as connection:
                ledger.fail(connection, claimed, reason=reason, detail=detail, policy=self._policy)

        self._at_leisure(step)

    def _give_back(self, claimed: Claim, *, reason: str, delay_s: float) -> None:
        self.tally.num_given_back += len(claimed)

        def step() -> None:
            with self._database.begin() as connection:
                ledger.give_back(connection, claimed, reason=reason, delay_s=delay_s)

        self._at_leisure(step)

    def _at_leisure(self, step: Callable[[], None]) -> None:
        try:
            patiently(step, give_up_after_s=10.0, stop=self._stopping.is_set)
        except DatabaseUnavailableError as error:
            log.warning("claim_left_to_sweep", error=str(error))


def _place(error: BaseException) -> str:
    # Type and place only: a message of a foreign error may quote the answer.
    frames = traceback.extract_tb(error.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "unknown"
