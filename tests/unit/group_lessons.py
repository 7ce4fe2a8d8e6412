"""Two items of a tiny encoder that can be learned: members, pupils and a reader for tests of merging."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scoring.artifacts import ArtifactStore
from scoring.backbone import Backbone
from scoring.merging.members import Member, prepare, reader_for
from scoring.types import LabelledAnswer
from tests.schoolhouse import answer
from tests.unit.tiny_encoders import make_scorer, write_adapter, write_encoder

if TYPE_CHECKING:
    from pathlib import Path

    from scoring.merging.extraction import SharedReader
    from scoring.merging.members import Pupil


class Group:
    """Members with random champions and answers whose level is told by a word."""

    def __init__(
        self, folder: Path, *, num_items: int = 2, num_answers: int = 80, num_unread: int = 10
    ) -> None:
        self.backbone = Backbone.load(write_encoder(folder / "encoder"))
        self.store = ArtifactStore(folder / "store")
        self.members = [
            self._member(place, num_answers=num_answers, num_unread=num_unread) for place in range(num_items)
        ]

    def taught(self) -> tuple[SharedReader, list[Pupil]]:
        reader = reader_for(self.members, self.backbone)
        return reader, [prepare(member, reader) for member in self.members]

    def _member(self, place: int, *, num_answers: int, num_unread: int) -> Member:
        key = write_adapter(self.store, self.backbone, seed=place, strength=1.0)
        scorer = make_scorer(self.store, self.backbone, key, name=f"item{place}", levels=(3,))
        rng = np.random.default_rng(place)
        levels = [int(rng.integers(3)) for _ in range(num_answers)]
        answers = [
            LabelledAnswer(f"r{number}", answer(level, rng), {"trait0": level})
            for number, level in enumerate(levels)
        ]
        cut = num_answers * 4 // 5
        return Member(
            scorer,
            self.store.read_extractor(key),
            train=answers[:cut],
            validation=answers[cut:],
            unread=[answer(1, rng) for _ in range(num_unread)],
        )
