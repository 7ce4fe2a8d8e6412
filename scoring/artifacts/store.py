"""The artifact store: extractors and scorers written once, read with every check, never changed.

Composes the folders (bytes by content address) with the artifacts' own forms; knows no backbone, no engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scoring.artifacts.cards import extractor_card, scorer_card
from scoring.artifacts.extractor import (
    ExtractorArtifact,
    extractor_files,
    extractor_from,
    extractor_manifest,
)
from scoring.artifacts.folders import Folders
from scoring.artifacts.scorer import ScorerArtifact, scorer_files, scorer_from, scorer_manifest
from scoring.errors import IncompatibleArtifactError
from scoring.types import ExtractorKey, ScorerKey

if TYPE_CHECKING:
    from pathlib import Path

CARD_FILE = "README.md"
EXTRACTORS = "extractors"
SCORERS = "scorers"


class ArtifactStore:
    """Extractors and scorers under one URL (a folder, `s3://bucket/prefix`, whatever fsspec opens)."""

    def __init__(self, url: str | Path) -> None:
        self._folders = Folders(url)

    def write_extractor(self, artifact: ExtractorArtifact) -> ExtractorKey:
        """Write an extractor in PEFT's layout; equal content gives the same key.

        Raises:
            StoreUnavailableError: the store does not answer.
        """
        card = {CARD_FILE: extractor_card(artifact).encode()}
        files = extractor_files(artifact) | card
        return ExtractorKey(self._folders.write(EXTRACTORS, extractor_manifest(artifact), files))

    def read_extractor(self, key: ExtractorKey) -> ExtractorArtifact:
        """Read an extractor and check hashes, names, shapes and values.

        Raises:
            CorruptArtifactError: a file is missing, changed, or no safetensors file.
            IncompatibleArtifactError: another format, another formula or contradicting shapes.
            StoreUnavailableError: the store does not answer.
        """
        manifest, files = self._folders.read(EXTRACTORS, key)
        files.pop(CARD_FILE, None)
        return extractor_from(manifest, files, where=f"{EXTRACTORS}/{key}")

    def write_scorer(self, artifact: ScorerArtifact) -> ScorerKey:
        """Write a scorer whose extractor is already in this store; equal content gives the same key.

        Raises:
            CorruptArtifactError: the extractor is missing or damaged.
            IncompatibleArtifactError: the extractor was made for another backbone.
            StoreUnavailableError: the store does not answer.
        """
        extractor = self.read_extractor(artifact.extractor)
        if extractor.backbone_revision != artifact.backbone_revision:
            raise IncompatibleArtifactError(
                f"item {artifact.item.item_id}: its scorer is for backbone {artifact.backbone} "
                f"({artifact.backbone_revision[:12]}), its extractor for {extractor.backbone} "
                f"({extractor.backbone_revision[:12]})"
            )
        card = {CARD_FILE: scorer_card(artifact, adapted=bool(extractor.tensors)).encode()}
        files = scorer_files(artifact) | card
        return ScorerKey(self._folders.write(SCORERS, scorer_manifest(artifact), files))

    def read_scorer(self, key: ScorerKey) -> ScorerArtifact:
        """Read a scorer and check hashes, names, shapes, levels and values.

        Raises:
            CorruptArtifactError: a file is missing, changed, or no safetensors file.
            IncompatibleArtifactError: another format, or a head that does not fit the item's levels.
            StoreUnavailableError: the store does not answer.
        """
        manifest, files = self._folders.read(SCORERS, key)
        files.pop(CARD_FILE, None)
        return scorer_from(manifest, files, where=f"{SCORERS}/{key}")

    def check(self) -> None:
        """Ask the store whether it is there; an empty one is.

        Raises:
            StoreUnavailableError: it does not answer, or does not let us in.
        """
        self._folders.check()

    def num_bytes(self, key: ExtractorKey | ScorerKey) -> int:
        """Size on disk of the extractor or scorer with this key, in bytes.

        Raises:
            CorruptArtifactError: neither is in the store, or it is damaged.
        """
        room = EXTRACTORS if self._folders.holds(EXTRACTORS, key) else SCORERS
        return self._folders.num_bytes(room, key)
