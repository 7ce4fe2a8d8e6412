"""The scorers that an engine holds: read from the store, checked against the backbone, put into the banks.

A merged extractor takes one slot however many scorers share it. Knows no texts and no arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from scoring.engines.rows import Reading
from scoring.errors import IncompatibleArtifactError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from scoring.artifacts import ArtifactStore, ExtractorArtifact, ScorerArtifact
    from scoring.backbone import Backbone
    from scoring.bank import AdapterBank
    from scoring.heads import HeadBank
    from scoring.types import ExtractorKey, ScorerKey


@dataclass(frozen=True, slots=True, eq=False)
class LoadedScorer:
    """A scorer in the banks."""

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
    ) -> None:
        """Start empty.

        Args:
            store: where artifacts are read
            backbone: what they must have been made for
            adapters: bank of the extractors
            heads: bank of the heads
            takes_int8: whether a scorer is to run in int8
        """
        self._takes_int8 = takes_int8
        self._store = store
        self._backbone = backbone
        self._adapters = adapters
        self._heads = heads
        self._scorers: dict[ScorerKey, LoadedScorer] = {}
        self._slots: dict[ExtractorKey, int] = {}

    def __getitem__(self, key: ScorerKey) -> LoadedScorer:
        return self._scorers[key]

    def __contains__(self, key: object) -> bool:
        return key in self._scorers

    def __iter__(self) -> Iterator[ScorerKey]:
        return iter(self._scorers)

    def __len__(self) -> int:
        return len(self._scorers)

    def newest(self, num_scorers: int) -> list[LoadedScorer]:
        """The scorers that came last, at most so many."""
        return list(self._scorers.values())[-num_scorers:]

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
            slot = self._extractor_slot(artifact.extractor)
        except BaseException:
            self._heads.remove(head_slot)
            raise
        reading = Reading(slot, artifact.max_tokens, artifact.pooling, self._takes_int8(artifact))
        self._scorers[key] = LoadedScorer(key, artifact, reading, head_slot)
        return self._scorers[key]

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
        if all(other.artifact.extractor != extractor for other in self._scorers.values()):
            self._adapters.remove(self._slots.pop(extractor))

    def _extractor_slot(self, key: ExtractorKey) -> int:
        if key not in self._slots:
            extractor = self._store.read_extractor(key)
            self._check_backbone(key, extractor)
            scale = extractor.lora.alpha / extractor.lora.rank
            self._slots[key] = self._adapters.add(extractor.modules(), scale=scale)
        return self._slots[key]

    def _check_backbone(self, key: str, artifact: ScorerArtifact | ExtractorArtifact) -> None:
        backbone = self._backbone
        if artifact.backbone_revision != backbone.revision:
            raise IncompatibleArtifactError(
                f"artifact {key[:12]}: made for backbone {artifact.backbone} "
                f"({artifact.backbone_revision[:12]}), this engine holds {backbone.name} "
                f"({backbone.revision[:12]}); start a worker with that backbone or train the item again"
            )
