"""A claim becomes rows: what stands in one scorer's way keeps only its own answers waiting."""

from __future__ import annotations

import uuid

import numpy as np
import pytest

from db.ledger import Claim
from db.registry import Serving
from scoring.errors import CorruptArtifactError, IncompatibleArtifactError, StoreUnavailableError
from scoring.types import ItemId, ItemSpec, Requests, Scores, Trait
from workers.marking import mark
from workers.roster import Roster

TEXT = "The ice melts in the sun"


class Batcher:
    """Scores everything at level 1, but cannot read one scorer."""

    engine_name = "test"

    def __init__(self, unreadable: str, error: Exception) -> None:
        self.unreadable = unreadable
        self.error = error

    def label(self, _scorer: str) -> str:
        return self.engine_name

    def score(self, requests: Requests) -> Scores:
        if self.unreadable in requests.scorers:
            raise self.error
        num = len(requests)
        return Scores(
            answer=np.arange(num, dtype=np.int32),
            trait=["t0"] * num,
            level=np.ones(num, dtype=np.int16),
            probabilities=[[0.1, 0.8, 0.1]] * num,
            confidence=np.full(num, 0.8, dtype=np.float32),
            needs_review=np.zeros(num, dtype=np.bool_),
        )


def roster(**serving: tuple[Serving, ...]) -> Roster:
    items = {name: ItemSpec(ItemId(name), "Why?", "en", (Trait("t0", 3),)) for name in serving}
    return Roster(1, items, serving)


def serving(item_id: str, scorer_id: int, role: str = "champion") -> Serving:
    return Serving(item_id, role, scorer_id, f"{item_id} {role}", "extractor")


@pytest.mark.parametrize("error", [CorruptArtifactError, IncompatibleArtifactError, StoreUnavailableError])
def test_answers_of_a_scorer_that_cannot_be_read_wait_and_all_others_are_scored(error):
    claimed = Claim(uuid.uuid4(), [1, 2, 3], ["gone", "here", "gone"], [TEXT] * 3)
    serves = roster(gone=(serving("gone", 1),), here=(serving("here", 2),))
    marked = mark(claimed, serves, Batcher("gone champion", error()))
    assert (marked.finished, marked.unserved) == ([2], [1, 3])
    assert (marked.sheet.columns.submission_id, marked.sheet.columns.scorer_id) == ([2], [2])


def test_a_shadow_that_cannot_be_read_keeps_nobody_waiting():
    claimed = Claim(uuid.uuid4(), [1], ["here"], [TEXT])
    serves = roster(here=(serving("here", 1), serving("here", 2, "shadow")))
    marked = mark(claimed, serves, Batcher("here shadow", StoreUnavailableError()))
    assert (marked.finished, marked.unserved) == ([1], [])
    assert marked.sheet.columns.scorer_id == [1]
