"""What training leaves behind and engines read: immutable, content-addressed, safetensors and JSON only."""

from scoring.artifacts.extractor import ExtractorArtifact
from scoring.artifacts.scorer import ScorerArtifact
from scoring.artifacts.store import ArtifactStore

__all__ = ["ArtifactStore", "ExtractorArtifact", "ScorerArtifact"]
