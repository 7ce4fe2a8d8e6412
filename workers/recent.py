"""Scores of the last answers, so that an answer that has just been scored is not computed again.

Same scorer and same normalised text give the same scores: students copy, and submit twice. Keeps digests and
scores, never a text; every submission still gets rows of its own from the caller.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from scoring.text import duplicate_key
from scoring.types import Scores

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from scoring.types import Requests, ScorerKey


@dataclass(frozen=True, slots=True)
class _Scored:
    """One answer's scores, trait by trait."""

    traits: list[str]
    levels: list[int]
    probabilities: list[list[float]]
    confidences: list[float]
    reviews: list[bool]


class RecentScores:
    """The scores of the answers asked for last, at most so many."""

    def __init__(self, max_answers: int) -> None:
        self._max_answers = max_answers
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[ScorerKey, bytes], _Scored] = OrderedDict()
        #: Answers that were asked for, and those that needed no computation.
        self.num_asked = self.num_known = 0

    def __len__(self) -> int:
        return len(self._kept)

    def score(self, requests: Requests, compute: Callable[[Requests], Scores]) -> Scores:
        """Scores of all answers; only those not known are computed, each once.

        Args:
            requests: any mix of scorers
            compute: what scores the rest; its errors pass through and nothing is kept then
        """
        keys = [
            (scorer, duplicate_key(text))
            for scorer, text in zip(requests.scorers, requests.texts, strict=True)
        ]
        known = self._known(keys)
        first_at: dict[tuple[ScorerKey, bytes], int] = {}
        for index, key in enumerate(keys):
            if key not in known:
                first_at.setdefault(key, index)
        if first_at:
            asked = requests.take(first_at.values())
            fresh = dict(zip(first_at, _by_answer(compute(asked), len(asked)), strict=True))
            self._keep(fresh)
            known |= fresh
        with self._lock:
            self.num_asked += len(keys)
            self.num_known += len(keys) - len(first_at)
        return _columns([known[key] for key in keys])

    def _known(self, keys: Sequence[tuple[ScorerKey, bytes]]) -> dict[tuple[ScorerKey, bytes], _Scored]:
        with self._lock:
            found = {key: self._kept[key] for key in keys if key in self._kept}
            for key in found:
                self._kept.move_to_end(key)
        return found

    def _keep(self, fresh: dict[tuple[ScorerKey, bytes], _Scored]) -> None:
        with self._lock:
            self._kept.update(fresh)
            while len(self._kept) > self._max_answers:
                self._kept.popitem(last=False)


def _by_answer(scores: Scores, num_answers: int) -> list[_Scored]:
    bounds = np.searchsorted(scores.answer, np.arange(num_answers + 1)).tolist()
    levels, confidences = scores.level.tolist(), scores.confidence.tolist()
    reviews = scores.needs_review.tolist()
    return [
        _Scored(
            scores.trait[low:high],
            levels[low:high],
            scores.probabilities[low:high],
            confidences[low:high],
            reviews[low:high],
        )
        for low, high in pairwise(bounds)
    ]


def _columns(answers: Sequence[_Scored]) -> Scores:
    return Scores(
        answer=np.repeat(np.arange(len(answers), dtype=np.int32), [len(one.traits) for one in answers]),
        trait=[trait for one in answers for trait in one.traits],
        level=np.array([level for one in answers for level in one.levels], dtype=np.int16),
        probabilities=[list(row) for one in answers for row in one.probabilities],
        confidence=np.array([value for one in answers for value in one.confidences], dtype=np.float32),
        needs_review=np.array([value for one in answers for value in one.reviews], dtype=np.bool_),
    )
