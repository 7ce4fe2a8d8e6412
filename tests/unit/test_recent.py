"""Scores of the last answers: computed once, right for everyone, and no more of them than asked for."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.types import Requests, Scores
from workers.recent import RecentScores

TRAITS = {"one": ("score",), "two": ("content", "form")}


def level_of(scorer, trait, text):
    return (len(" ".join(text.split())) + len(trait) + len(scorer)) % 5


class Computer:
    """Scores by a rule, and keeps what it was asked for."""

    def __init__(self):
        self.asked = []

    def __call__(self, requests):
        pairs = list(zip(requests.scorers, requests.texts, strict=True))
        self.asked += pairs
        rows = [(n, trait, level_of(s, trait, t)) for n, (s, t) in enumerate(pairs) for trait in TRAITS[s]]
        return Scores(
            answer=np.array([row[0] for row in rows], dtype=np.int32),
            trait=[row[1] for row in rows],
            level=np.array([row[2] for row in rows], dtype=np.int16),
            probabilities=[[row[2] / 5, 1 - row[2] / 5] for row in rows],
            confidence=np.array([row[2] / 5 for row in rows], dtype=np.float32),
            needs_review=np.array([row[2] % 2 == 0 for row in rows], dtype=bool),
        )


def told(scores):
    return [
        *zip(
            scores.answer.tolist(),
            scores.trait,
            scores.level.tolist(),
            scores.probabilities,
            scores.confidence.tolist(),
            scores.needs_review.tolist(),
            strict=True,
        )
    ]


asked = st.lists(st.tuples(st.sampled_from(sorted(TRAITS)), st.sampled_from(["ice", "no", "no ", "sun"])))


@settings(deadline=None)
@given(st.lists(asked, max_size=8), st.integers(1, 6))
def test_answers_get_what_they_would_get_without_it(calls, max_answers):
    recent = RecentScores(max_answers)
    for call in calls:
        requests = Requests([scorer for scorer, _ in call], [text for _, text in call])
        scores = recent.score(requests, Computer())
        expected = Computer()(requests)
        assert told(scores) == told(expected)
        for mine, theirs in ((scores.level, expected.level), (scores.confidence, expected.confidence)):
            assert mine.dtype == theirs.dtype
        assert len(recent) <= max_answers


def test_equal_answers_are_computed_once_for_each_scorer():
    recent, computer = RecentScores(10), Computer()
    recent.score(Requests(["one", "one", "two"], ["ice", " ice\n", "ice"]), computer)
    recent.score(Requests(["two", "one"], ["ice", "ice"]), computer)
    assert computer.asked == [("one", "ice"), ("two", "ice")]
    assert (recent.num_asked, recent.num_known) == (5, 3)


def test_the_answer_asked_for_longest_ago_is_forgotten_first():
    recent, computer = RecentScores(2), Computer()
    for text in ("a", "b", "a", "c"):
        recent.score(Requests(["one"], [text]), computer)
    computer.asked.clear()
    recent.score(Requests(["one", "one", "one"], ["a", "c", "b"]), computer)
    assert computer.asked == [("one", "b")]


def test_what_failed_is_not_kept():
    recent, computer = RecentScores(10), Computer()

    def fails(_requests):
        raise MemoryError

    with pytest.raises(MemoryError):
        recent.score(Requests(["one"], ["ice"]), fails)
    recent.score(Requests(["one"], ["ice"]), computer)
    assert computer.asked == [("one", "ice")]


def test_it_keeps_no_text():
    recent = RecentScores(10)
    recent.score(Requests(["one"], ["Gletscherkuss"]), Computer())
    assert "Gletscherkuss" not in repr(recent._kept)


def test_threads_share_it():
    recent, faults = RecentScores(50), []

    def work(seed):
        rng = np.random.default_rng(seed)
        for _ in range(50):
            texts = ["x" * int(n) for n in rng.integers(0, 80, size=20)]
            requests = Requests(["two"] * 20, texts)
            if told(recent.score(requests, Computer())) != told(Computer()(requests)):
                faults.append(texts)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert len(recent) == 50
