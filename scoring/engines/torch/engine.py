"""The torch engine: one backbone on a CPU or a GPU, a fast forward for the BERT family.

Chooses device and precision; what all engines share is in `scoring.engines.banked`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from scoring.engines.banked import BankedEngine
from scoring.engines.torch.encoders import Encoders, make_bank
from scoring.engines.torch.folding import folded_layers
from scoring.engines.torch.kernels import int8_pays
from scoring.errors import EngineUnavailableError

if TYPE_CHECKING:
    from scoring.artifacts import ArtifactStore
    from scoring.backbone import Backbone
    from scoring.config import EngineConfig


class TorchEngine(BankedEngine):
    """`scoring.engine.Engine` on torch, CPU or CUDA, fp32 and on a CPU int8."""

    def __init__(self, backbone: Backbone, store: ArtifactStore, config: EngineConfig) -> None:
        """Make an engine without scorers.

        Args:
            backbone: loaded on the device that the engine is to run on
            store: where scorers and extractors are read
            config: how answers are cut into batches, and in what precision they run
        """
        adapters = make_bank(backbone, max_bytes=config.max_bank_bytes)
        merged = config.merged_extractor
        folded = folded_layers(backbone, store, merged) if merged is not None else {}
        encoder = Encoders(backbone, adapters, folded)
        wants_int8 = config.precision == "int8" or (config.precision == "auto" and int8_pays())
        self._forward = encoder.forward + ("+merged" if merged is not None else "")
        super().__init__(
            backbone,
            store,
            config,
            encoder=encoder,
            adapters=adapters,
            can_int8=wants_int8 and encoder.can_int8,
        )

    def title(self, *, is_int8: bool) -> str:
        """Engine, version, device, a precision and the kind of forward."""
        precision = "int8" if is_int8 else "fp32"
        return f"torch {torch.__version__} {self._backbone.device.type} {precision} {self._forward}"


def pick_device(device: str) -> str:
    """The device that a configured name means: "auto" is CUDA where there is one, else the CPU.

    Raises:
        EngineUnavailableError: CUDA is asked for by name, and there is none.
    """
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise EngineUnavailableError(
            f"device {device}: torch {torch.__version__} finds no CUDA here; set SCOREFOLD_ENGINE__DEVICE to"
            " auto or cpu, or install torch's build for CUDA on a machine with a GPU"
        )
    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"
