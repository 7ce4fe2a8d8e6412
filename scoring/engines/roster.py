"""The scorers that an engine holds: read from the store, checked against the backbone, put into the banks.

A merged extractor takes one slot however many scorers share it. Knows no texts and no arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from scoring.engines.residency import Residency
from scoring.engines.rows import Reading
from scoring.errors import IncompatibleArtifactError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from scoring.artifacts import ArtifactStore, ExtractorArtifact, ScorerArtifact
    from scoring.backbone import Backbone
    from scoring.bank import AdapterBank
    from scoring.heads import HeadBank
    from scoring.types import ExtractorKey, ScorerKey


#: Slot of an extractor that has left the bank: no answer may be computed with it.
ABSENT = -1


@dataclass(frozen=True, slots=True, eq=False)
class LoadedScorer:
    """A scorer in the banks; its reading names slot `ABSENT` while its extractor is out of the bank."""

    key: ScorerKey
    artifact: ScorerArtifact
    reading: Reading
    head_slot: int


class Roster:
    """Loaded scorers by key, in the order in which they came."""

    def __init__(
        self,
        store: ArtifactStore,
        backbone: Backbone,
        *,
        adapters: AdapterBank,
        heads: HeadBank,
        takes_int8: Callable[[ScorerArtifact], bool],
        merged: str | None = None,
    ) -> None:
        """Start empty.

        Args:
            store: where artifacts are read
            backbone: what they must have been made for
            adapters: bank of the extractors
            heads: bank of the heads
            takes_int8: whether a scorer is to run in int8
            merged: the one extractor that is part of the encoder's weights, so that no other can be served
        """
        self._takes_int8 = takes_int8
        self._store = store
        self._backbone = backbone
        self._heads = heads
        self._merged = merged
        self._scorers: dict[ScorerKey, LoadedScorer] = {}
        self._users: dict[ExtractorKey, set[ScorerKey]] = {}
        self.residency = Residency(adapters, self._read_extractor)

    def __getitem__(self, key: ScorerKey) -> LoadedScorer:
        return self._scorers[key]

    def __contains__(self, key: object) -> bool:
        return key in self._scorers

    def __iter__(self) -> Iterator[ScorerKey]:
        return iter(self._scorers)

    def __len__(self) -> int:
        return len(self._scorers)

    def companions(self, newcomer: LoadedScorer, num_scorers: int) -> list[LoadedScorer]:
        """The scorers that came last before this one and whose extractors are in the bank."""
        others = [
            scorer
            for scorer in self._scorers.values()
            if scorer is not newcomer and (self._is_merged or scorer.artifact.extractor in self.residency)
        ]
        return others[-num_scorers:]

    def admit(self, key: ScorerKey) -> LoadedScorer:
        """Read a scorer and its extractor and put them into the banks; all or nothing.

        Raises:
            CorruptArtifactError: a file is missing, changed, or no safetensors file.
            IncompatibleArtifactError: made for another backbone, or needs what this engine cannot do.
            StoreUnavailableError: the store does not answer.
        """
        artifact = self._store.read_scorer(key)
        self._check_backbone(key, artifact)
        head_slot = self._heads.add(artifact.head_weight, artifact.head_bias)
        try:
            slot = self._bring(artifact.extractor)
        except BaseException:
            self._heads.remove(head_slot)
            raise
        reading = Reading(slot, artifact.max_tokens, artifact.pooling, self._takes_int8(artifact))
        self._scorers[key] = LoadedScorer(key, artifact, reading, head_slot)
        self._users.setdefault(artifact.extractor, set()).add(key)
        return self._scorers[key]

    def waves(self, keys: Sequence[ScorerKey]) -> Iterator[NDArray[np.intp]]:
        """Indices of the answers of each wave, whose extractors are in the bank when it is yielded.

        Args:
            keys: the scorer of each answer [num_answers]

        Raises:
            KeyError: a scorer is not loaded.
        """
        extractors = [self._scorers[key].artifact.extractor for key in keys]
        if self._is_merged:
            yield np.arange(len(keys))
            return
        for wave in self.residency.waves(extractors):
            for extractor in wave:
                self._bring(extractor, keep=wave)
            yield np.flatnonzero([extractor in wave for extractor in extractors])

    def demote(self, key: ScorerKey) -> None:
        """Serve a loaded scorer in fp32 from now on."""
        scorer = self._scorers[key]
        self._scorers[key] = replace(scorer, reading=scorer.reading._replace(is_int8=False))

    def dismiss(self, key: ScorerKey) -> None:
        """Forget a scorer, and its extractor when no other scorer uses it.

        Raises:
            KeyError: it is not loaded.
        """
        scorer = self._scorers.pop(key)
        self._heads.remove(scorer.head_slot)
        extractor = scorer.artifact.extractor
        self._users[extractor].discard(key)
        if not self._users[extractor]:
            del self._users[extractor]
            self.residency.forget(extractor)

    @property
    def _is_merged(self) -> bool:
        return self._merged is not None

    def _bring(self, key: ExtractorKey, *, keep: frozenset[ExtractorKey] = frozenset()) -> int:
        """Slot of an extractor, brought in where it is not in the bank."""
        if self._is_merged:
            if key != self._merged:
                raise IncompatibleArtifactError(
                    f"extractor {key[:12]}: this engine serves {str(self._merged)[:12]} alone, which is part "
                    "of its weights; unset the merged extractor or start another worker"
                )
            return 0
        was_there = key in self.residency
        for gone in self.residency.bring(key, keep=keep):
            self._move(gone, ABSENT)
        slot = self.residency.slot(key)
        if not was_there:
            self._move(key, slot)
        return slot

    def _move(self, extractor: ExtractorKey, slot: int) -> None:
        for user in self._users.get(extractor, ()):
            scorer = self._scorers[user]
            self._scorers[user] = replace(scorer, reading=scorer.reading._replace(slot=slot))

    def _read_extractor(self, key: ExtractorKey) -> ExtractorArtifact:
        extractor = self._store.read_extractor(key)
        self._check_backbone(key, extractor)
        return extractor

    def _check_backbone(self, key: str, artifact: ScorerArtifact | ExtractorArtifact) -> None:
        backbone = self._backbone
        if artifact.backbone_revision != backbone.revision:
            raise IncompatibleArtifactError(
                f"artifact {key[:12]}: made for backbone {artifact.backbone} "
                f"({artifact.backbone_revision[:12]}), this engine holds {backbone.name} "
                f"({backbone.revision[:12]}); start a worker with that backbone or train the item again"
            )
