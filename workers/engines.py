"""Chooses and builds the engine that the settings ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scoring.artifacts import ArtifactStore
from scoring.backbone import Backbone
from scoring.config import EngineConfig
from scoring.engines.torch import TorchEngine, pick_device, use_threads

if TYPE_CHECKING:
    from scoring.engine import Engine
    from workers.settings import Settings


def build_engine(settings: Settings) -> Engine:
    """Load the backbone once and make an empty engine around it.

    Raises:
        BackboneUnavailableError: the backbone's weights cannot be loaded.
    """
    config = EngineConfig(
        max_batch_tokens=settings.engine.max_batch_tokens,
        num_threads=settings.engine.num_threads,
        device=settings.engine.device,
        precision=settings.engine.precision,
    )
    use_threads(config.num_threads)
    backbone = Backbone.load(settings.backbone.name, device=pick_device(config.device))
    return TorchEngine(backbone, ArtifactStore(settings.artifact_url()), config)
