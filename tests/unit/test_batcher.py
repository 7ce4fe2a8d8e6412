"""One engine thread: jobs meet and part again, one job's fault is its own, errands run in between."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.errors import CorruptArtifactError
from scoring.types import Requests, ScorerKey, Scores
from workers.batcher import Batcher, split

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NUM_TRAITS = {"one": 1, "two": 2, "none": 0, "five": 5}


def scored(requests: Requests) -> Scores:
    """What an engine must give: every value tells which text and trait it belongs to."""
    rows = [
        (answer, trait, len(text) + trait)
        for answer, (scorer, text) in enumerate(zip(requests.scorers, requests.texts, strict=True))
        for trait in range(NUM_TRAITS[scorer])
    ]
    level = [value for _, _, value in rows]
    return Scores(
        answer=np.array([answer for answer, _, _ in rows], dtype=np.int32),
        trait=[f"t{trait}" for _, trait, _ in rows],
        level=np.array(level, dtype=np.int16),
        probabilities=[[1.0 / (1 + value), float(value)] for value in level],
        confidence=np.array(level, dtype=np.float32) / 100,
        needs_review=np.array(level, dtype=np.int16) % 2 == 0,
    )


def columns(scores: Scores) -> list[list[object]]:
    """All columns as lists, so that two `Scores` can be compared."""
    return [
        scores.answer.tolist(),
        scores.trait,
        scores.level.tolist(),
        scores.probabilities,
        scores.confidence.tolist(),
        scores.needs_review.tolist(),
    ]


class Engine:
    """Scores by `scored`; refuses the text "bad"; waits at its gate, so that jobs pile up behind a call."""

    name = "test/fp32"

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.calls: list[list[str]] = []
        self.threads: set[int] = set()
        self.preparing: list[int] = []

    def prepare(self, requests: Requests) -> Requests:
        """As many tokens as letters."""
        self.preparing.append(threading.get_ident())
        return replace(requests, token_ids=[(0,) * len(text) for text in requests.texts])

    def score(self, requests: Requests) -> Scores:
        """Score, or raise what the engine raises for a damaged scorer."""
        self.threads.add(threading.get_ident())
        self.calls.append(list(requests.texts))
        assert [len(ids) for ids in requests.token_ids or ()] == [len(text) for text in requests.texts]
        self.entered.set()
        assert self.gate.wait(10)
        if "bad" in requests.texts:
            raise CorruptArtifactError("scorer is damaged")
        return scored(requests)


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def batcher(engine: Engine) -> Iterator[Batcher]:
    made = Batcher(engine, max_answers=8)
    made.start()
    yield made
    engine.gate.set()
    made.stop()


def ask(*texts: str, scorer: str = "one") -> Requests:
    return Requests([ScorerKey(scorer)] * len(texts), texts)


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "waited 10 s in vain"
        time.sleep(0.002)


def num_waiting(batcher: Batcher) -> int:
    return batcher._jobs.qsize()


PARTS = st.lists(
    st.lists(st.tuples(st.sampled_from(list(NUM_TRAITS)), st.text(max_size=6)), max_size=5), max_size=8
)


@given(PARTS)
def test_split_gives_each_part_what_it_would_have_had_alone(parts):
    jobs = [Requests([ScorerKey(name) for name, _ in part], [text for _, text in part]) for part in parts]
    merged = scored(
        Requests([key for job in jobs for key in job.scorers], [text for job in jobs for text in job.texts])
    )
    pieces = split(merged, [len(job) for job in jobs])
    assert [columns(piece) for piece in pieces] == [columns(scored(job)) for job in jobs]


def test_split_keeps_the_columns_types():
    piece = split(scored(ask("a", "bb", scorer="two")), [1, 1])[1]
    kept = (piece.answer.dtype, piece.level.dtype, piece.confidence.dtype, piece.needs_review.dtype)
    assert kept == (np.int32, np.int16, np.float32, np.bool_)


def test_jobs_that_wait_are_scored_in_one_call_and_each_gets_its_own(batcher, engine):
    jobs = [ask("first"), ask("a", "bb", scorer="five"), ask("c"), ask(), ask("dddd", scorer="two")]
    engine.gate.clear()
    with ThreadPoolExecutor(5) as threads:
        asked = [threads.submit(batcher.score, jobs[0])]
        assert engine.entered.wait(10)
        for position, job in enumerate(jobs[1:], start=1):
            asked.append(threads.submit(batcher.score, job))
            eventually(lambda: num_waiting(batcher) == position)  # noqa: B023 (runs within the round)
        engine.gate.set()
        found = [one.result(10) for one in asked]
    assert [columns(one) for one in found] == [columns(scored(job)) for job in jobs]
    assert engine.calls == [["first"], ["a", "bb", "c", "dddd"]]
    assert len(engine.threads) == 1


def test_a_call_takes_no_more_jobs_once_it_is_full(batcher, engine):
    engine.gate.clear()
    with ThreadPoolExecutor(4) as threads:
        asked = [threads.submit(batcher.score, ask("first"))]
        assert engine.entered.wait(10)
        for position, size in enumerate((5, 5, 5), start=1):
            asked.append(threads.submit(batcher.score, ask(*"x" * size)))
            eventually(lambda: num_waiting(batcher) == position)  # noqa: B023 (runs within the round)
        engine.gate.set()
        assert [len(one.result(10)) for one in asked] == [1, 5, 5, 5]
    assert [len(call) for call in engine.calls] == [1, 10, 5]


def test_a_job_that_fails_harms_none_of_its_neighbours(batcher, engine):
    engine.gate.clear()
    with ThreadPoolExecutor(4) as threads:
        first = threads.submit(batcher.score, ask("first"))
        assert engine.entered.wait(10)
        good = threads.submit(batcher.score, ask("good", scorer="two"))
        eventually(lambda: num_waiting(batcher) == 1)
        bad = threads.submit(batcher.score, ask("fine", "bad"))
        eventually(lambda: num_waiting(batcher) == 2)
        other = threads.submit(batcher.score, ask("other"))
        eventually(lambda: num_waiting(batcher) == 3)
        engine.gate.set()
        assert columns(first.result(10)) == columns(scored(ask("first")))
        assert columns(good.result(10)) == columns(scored(ask("good", scorer="two")))
        assert columns(other.result(10)) == columns(scored(ask("other")))
        with pytest.raises(CorruptArtifactError, match="damaged"):
            bad.result(10)
    assert engine.calls[1] == ["good", "fine", "bad", "other"]
    assert columns(batcher.score(ask("later"))) == columns(scored(ask("later")))


def test_a_job_that_fails_alone_hears_of_it_and_the_thread_lives_on(batcher):
    with pytest.raises(CorruptArtifactError):
        batcher.score(ask("bad"))
    assert batcher.score(ask("next")).trait == ["t0"]


def test_an_errand_runs_between_two_calls_in_its_turn(batcher, engine):
    engine.gate.clear()
    order: list[str] = []
    with ThreadPoolExecutor(3) as threads:
        first = threads.submit(batcher.score, ask("first"))
        assert engine.entered.wait(10)
        before = threads.submit(batcher.score, ask("before"))
        eventually(lambda: num_waiting(batcher) == 1)
        errand = threads.submit(batcher.errand, lambda engine: order.extend(engine.calls[-1]))
        eventually(lambda: num_waiting(batcher) == 2)
        engine.gate.set()
        errand.result(10)
        first.result(10)
        before.result(10)
    assert order == ["before"]
    assert engine.calls == [["first"], ["before"]]


def test_an_errand_passes_its_error_on_and_the_thread_lives(batcher):
    with pytest.raises(CorruptArtifactError, match="golden"):
        batcher.errand(lambda _engine: (_ for _ in ()).throw(CorruptArtifactError("golden")))
    assert len(batcher.score(ask("next"))) == 1


def test_stop_lets_everything_finish_that_came_before(engine):
    batcher = Batcher(engine)
    batcher.start()
    engine.gate.clear()
    with ThreadPoolExecutor(4) as threads:
        asked = [threads.submit(batcher.score, ask("first"))]
        assert engine.entered.wait(10)
        asked += [threads.submit(batcher.score, ask(text)) for text in ("second", "third")]
        eventually(lambda: num_waiting(batcher) == 2)
        stopping = threads.submit(batcher.stop)
        eventually(lambda: num_waiting(batcher) == 3)
        engine.gate.set()
        assert [len(one.result(10)) for one in asked] == [1, 1, 1]
        stopping.result(10)
    assert not batcher._thread.is_alive()


def test_stalled_s_counts_the_present_call_only(batcher, engine):
    assert batcher.stalled_s() == 0.0
    engine.gate.clear()
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(batcher.score, ask("slow"))
        assert engine.entered.wait(10)
        eventually(lambda: batcher.stalled_s() > 0.02)
        engine.gate.set()
        asked.result(10)
    eventually(lambda: batcher.stalled_s() == 0.0)


def test_the_engine_s_name_is_known(batcher):
    assert batcher.engine_name == "test/fp32"


def test_an_idle_engine_waits_a_moment_for_company_of_a_small_job(engine):
    batcher = Batcher(engine, linger_s=2.0)
    batcher.start()
    first = threading.Thread(target=batcher.score, args=(ask("a"),))
    first.start()
    batcher.score(ask("b" * 3, *["c"] * 80))
    first.join()
    batcher.stop()
    assert [len(call) for call in engine.calls] == [82]


def test_a_large_job_does_not_wait(engine):
    batcher = Batcher(engine, linger_s=3600.0)
    batcher.start()
    assert len(batcher.score(ask(*["a"] * 64))) > 0
    batcher.stop()


def test_each_job_is_prepared_in_the_thread_that_asks_while_the_engine_is_busy(batcher, engine):
    engine.gate.clear()
    with ThreadPoolExecutor(3) as threads:
        asked = [threads.submit(batcher.score, ask("first"))]
        assert engine.entered.wait(10)
        asked += [threads.submit(batcher.score, ask(text)) for text in ("second", "third")]
        eventually(lambda: len(engine.preparing) == 3)
        assert engine.calls == [["first"]]
        engine.gate.set()
        assert [len(one.result(10)) for one in asked] == [1, 1, 1]
    assert len(engine.threads) == 1
    assert engine.threads.isdisjoint(engine.preparing)


def test_what_the_engine_did_is_counted(batcher, engine):
    batcher.score(ask("a", "bb"))
    with pytest.raises(CorruptArtifactError):
        batcher.score(ask("bad"))
    assert (batcher.tally.num_calls, batcher.tally.num_answers) == (2, 3)
    assert batcher.tally.busy_s > 0
    assert engine.calls == [["a", "bb"], ["bad"]]


def test_an_answer_that_was_just_scored_does_not_reach_the_engine_again(engine):
    batcher = Batcher(engine, max_recent_answers=10)
    batcher.start()
    first, second = batcher.score(ask("a", "b")), batcher.score(ask("b", "a", "c"))
    batcher.stop()
    assert engine.calls == [["a", "b"], ["c"]]
    assert columns(first) == columns(scored(ask("a", "b")))
    assert columns(second) == columns(scored(ask("b", "a", "c")))
