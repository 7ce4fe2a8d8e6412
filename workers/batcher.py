"""One thread owns the engine; answers of all messages in hand meet here and are scored together.

Task threads put jobs in and wait. The engine thread takes every job that waits, scores them in one call
(the engine sorts and cuts), and hands the parts back. Loading a scorer is a job too: it runs between batches.
"""

from __future__ import annotations

import queue
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from scoring.types import Requests, Scores
from workers.recent import RecentScores
from workers.telemetry import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from scoring.engine import Engine
    from scoring.types import BankState, ScorerKey

log = get_logger("batcher")

#: So few answers would leave the last batches of a forward pass half empty.
_SMALL_JOB = 64


@dataclass(slots=True)
class _ScoringJob:
    requests: Requests
    future: Future[Scores] = field(default_factory=Future)


@dataclass(slots=True)
class _Errand:
    run: Callable[[Engine], object]
    future: Future[object] = field(default_factory=Future)


@dataclass(slots=True)
class BatcherTally:
    """What the engine has been asked since the start."""

    num_calls: int = 0
    num_answers: int = 0
    busy_s: float = 0.0


class Batcher:
    """The engine's only user."""

    def __init__(
        self, engine: Engine, *, max_answers: int = 4096, linger_s: float = 0.003, max_recent_answers: int = 0
    ) -> None:
        """Prepare; `start` begins.

        Args:
            engine: whose only user this is
            max_answers: in one call of the engine
            linger_s: how long an idle engine waits for company after a small job; a backlog never waits
            max_recent_answers: answers whose scores are kept for equal ones to come
        """
        self._engine = engine
        self._linger_s = linger_s
        self.tally = BatcherTally()
        self.recent = RecentScores(max_recent_answers) if max_recent_answers else None
        self._max_answers = max_answers
        self._jobs: queue.SimpleQueue[_ScoringJob | _Errand | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._busy_since: float | None = None

    def start(self) -> None:
        """Start the engine thread."""
        self._thread.start()

    def stop(self) -> None:
        """Let what was put in before finish, then end the thread."""
        self._jobs.put(None)
        self._thread.join()

    @property
    def engine_name(self) -> str:
        """Engine and best precision, as written beside a condition code."""
        return self._engine.name

    def label(self, scorer: ScorerKey) -> str:
        """Engine and precision of a loaded scorer, as written beside each of its scores."""
        return self._engine.label(scorer)

    def bank(self) -> BankState:
        """How full the engine's bank is, and what came and went."""
        return self._engine.bank()

    def stalled_s(self) -> float:
        """For how long the present batch has been running; 0 when idle."""
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    def score(self, requests: Requests) -> Scores:
        """Score answers together with whatever else waits; blocks until done.

        Raises:
            ScorefoldError: what the engine raised for these answers.
        """
        if self.recent is None:
            return self._compute(requests)
        return self.recent.score(requests, self._compute)

    def _compute(self, requests: Requests) -> Scores:
        # Tokenised here, in the thread that asks, while the engine is busy with the batch before.
        job = _ScoringJob(self._engine.prepare(requests))
        self._jobs.put(job)
        return job.future.result()

    def errand(self, run: Callable[[Engine], object]) -> None:
        """Run something on the engine between two batches; blocks until done, passes its error on."""
        job = _Errand(run)
        self._jobs.put(job)
        job.future.result()

    def _run(self) -> None:
        while (first := self._jobs.get()) is not None:
            self._busy_since = time.monotonic()
            if isinstance(first, _Errand):
                self._do(first)
            else:
                jobs, after = self._gather(first)
                self._score(jobs)
                if isinstance(after, _Errand):
                    self._do(after)
                elif after is not None:
                    self._jobs.put(after)
            self._busy_since = None

    def _gather(self, first: _ScoringJob) -> tuple[list[_ScoringJob], _ScoringJob | _Errand | None]:
        jobs, num_answers = [first], len(first.requests)
        until = time.monotonic() + self._linger_s
        while num_answers < self._max_answers:
            try:
                wait_s = until - time.monotonic() if num_answers < _SMALL_JOB else 0.0
                job = self._jobs.get(timeout=wait_s) if wait_s > 0 else self._jobs.get_nowait()
            except queue.Empty:
                return jobs, None
            if not isinstance(job, _ScoringJob):
                if job is None:
                    self._jobs.put(None)
                return jobs, job
            jobs.append(job)
            num_answers += len(job.requests)
        return jobs, None

    def _score(self, jobs: Sequence[_ScoringJob]) -> None:
        if len(jobs) > 1 and not self._score_together(jobs):
            # One of them is at fault: each on its own, so that only that one hears of it.
            for job in jobs:
                self._score([job])
            return
        if len(jobs) == 1:
            job = jobs[0]
            try:
                job.future.set_result(self._ask(job.requests))
            except BaseException as error:  # noqa: BLE001 (handed to the thread that asked)
                job.future.set_exception(error)

    def _score_together(self, jobs: Sequence[_ScoringJob]) -> bool:
        merged = Requests.joined([job.requests for job in jobs])
        try:
            scores = self._ask(merged)
        except Exception as error:  # noqa: BLE001 (told apart by scoring one by one)
            log.warning("batch_split", num_jobs=len(jobs), error=type(error).__name__)
            return False
        for job, part in zip(jobs, split(scores, [len(job.requests) for job in jobs]), strict=True):
            job.future.set_result(part)
        return True

    def _ask(self, requests: Requests) -> Scores:
        started = time.monotonic()
        try:
            return self._engine.score(requests)
        finally:
            self.tally.num_calls += 1
            self.tally.num_answers += len(requests)
            self.tally.busy_s += time.monotonic() - started

    def _do(self, errand: _Errand) -> None:
        try:
            errand.future.set_result(errand.run(self._engine))
        except BaseException as error:  # noqa: BLE001 (handed to the thread that asked)
            errand.future.set_exception(error)


def split(scores: Scores, lengths: Sequence[int]) -> list[Scores]:
    """Cut the scores of a merged call back into its parts.

    Args:
        scores: in the order of the requests [num_scores].
        lengths: number of answers of each part.

    Returns:
        One `Scores` a part, its `answer` counted from 0 again.
    """
    parts, start = [], 0
    for length in lengths:
        low, high = np.searchsorted(scores.answer, [start, start + length])
        parts.append(
            Scores(
                answer=scores.answer[low:high] - np.int32(start),
                trait=scores.trait[low:high],
                level=scores.level[low:high],
                probabilities=scores.probabilities[low:high],
                confidence=scores.confidence[low:high],
                needs_review=scores.needs_review[low:high],
            )
        )
        start += length
    return parts
