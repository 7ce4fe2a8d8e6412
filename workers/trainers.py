"""Training processes: each loads the backbone once and trains one item after another.

One process a core is faster than one with as many threads, because the matrices of a small batch are small.
Knows no database: what comes of it is registered elsewhere.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scoring.errors import PermanentError, TransientError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from multiprocessing.queues import SimpleQueue

    from scoring.artifacts import ArtifactStore
    from scoring.backbone import Backbone
    from scoring.config import TrainingConfig
    from scoring.training.fitting import Epoch
    from scoring.types import BaselineReport, ItemSpec, LabelledAnswer, TrainingReport

    Told = Callable[[str, int, int], None]
    #: What goes from a training process to its parent: item, epochs done, epochs at most; None ends it.
    News = SimpleQueue[tuple[str, int, int] | None]
    Trained = TrainingReport | BaselineReport


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """One item and what it learns from."""

    item: ItemSpec
    answers: Sequence[LabelledAnswer]
    config: TrainingConfig


@dataclass(frozen=True, slots=True)
class Workshop:
    """What a training process needs beside its jobs."""

    backbone: str
    device: str
    store_url: str
    num_threads: int = 1


@dataclass(frozen=True, slots=True)
class _Tools:
    backbone: Backbone
    store: ArtifactStore
    told: News


#: Set once in each training process: by the pool's initializer, and with the first job.
_told: News | None = None
_tools: _Tools | None = None


def default_num_processes(num_items: int) -> int:
    """A process a core, but no more than there are items."""
    return max(1, min(num_items, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1))


def train_all(
    jobs: Sequence[TrainingJob], workshop: Workshop, *, num_processes: int, progress: Told | None = None
) -> Iterator[tuple[TrainingJob, Trained | PermanentError]]:
    """Train every job; yields each outcome as it comes, so that it can be registered at once.

    Args:
        jobs: one an item.
        workshop: backbone and store.
        num_processes: processes to train in.
        progress: told (item, epochs done, epochs at most) after each epoch.

    Raises:
        TransientError: a training process was ended from outside.
        ScorefoldError: what is wrong for all items alike, such as a backbone that cannot be loaded.
    """
    context = multiprocessing.get_context("spawn")  # a fork would copy torch's threads and CUDA's context
    told: News = context.SimpleQueue()
    with (
        _passing_on(told, progress),
        ProcessPoolExecutor(num_processes, context, initializer=_set_up, initargs=(told,)) as pool,
    ):
        waiting = {pool.submit(_train, job, workshop): job for job in jobs}
        try:
            for done in as_completed(waiting):
                yield waiting[done], _outcome(done)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _outcome(done: Future[Trained]) -> Trained | PermanentError:
    try:
        return done.result()
    except PermanentError as error:
        return error
    except BrokenProcessPool as error:
        raise TransientError("a training process was ended from outside (memory?); train again") from error


@contextmanager
def _passing_on(told: SimpleQueue[Any], progress: Told | None) -> Iterator[None]:
    def pass_on() -> None:
        while (news := told.get()) is not None:
            if progress is not None:
                progress(*news)

    thread = threading.Thread(target=pass_on, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        told.put(None)
        thread.join(timeout=5.0)


def _set_up(told: News) -> None:
    global _told  # noqa: PLW0603 (the pool's initializer has no other place to leave it)
    _told = told
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()


def _end_with_parent() -> None:
    """A killed parent cannot stop its pool, and the pool's processes would wait for it for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _train(job: TrainingJob, workshop: Workshop) -> Trained:
    from scoring.training.finetuning import measure_baseline, train_item

    tools = _open(workshop)

    def told(epoch: Epoch) -> None:
        tools.told.put((job.item.item_id, epoch.number, epoch.max_epochs))

    if job.config.method == "full":
        return measure_baseline(
            job.item, job.answers, backbone=tools.backbone, config=job.config, progress=told
        )
    return train_item(
        job.item,
        job.answers,
        backbone=tools.backbone,
        store=tools.store,
        config=job.config,
        progress=told,
    )


def _open(workshop: Workshop) -> _Tools:
    global _tools  # noqa: PLW0603 (loaded once a process, used for every item)
    if _tools is None:
        from scoring.artifacts import ArtifactStore
        from scoring.backbone import Backbone
        from scoring.engines.torch import pick_device, settle_process

        if _told is None:
            raise RuntimeError("this is no training process")
        settle_process(workshop.num_threads)
        backbone = Backbone.load(workshop.backbone, device=pick_device(workshop.device))
        _tools = _Tools(backbone, ArtifactStore(workshop.store_url), _told)
    return _tools
