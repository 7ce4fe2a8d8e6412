"""The ONNX Runtime engine, from the same artifacts and banks as the torch engine.

Chooses provider and precision; what all engines share is in `scoring.engines.banked`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnxruntime

from scoring.engines.banked import BankedEngine
from scoring.engines.onnx.encoder import OnnxEncoder
from scoring.engines.torch.anatomy import is_bert_like
from scoring.engines.torch.encoders import make_bank
from scoring.errors import EngineUnavailableError

if TYPE_CHECKING:
    from scoring.artifacts import ArtifactStore
    from scoring.backbone import Backbone
    from scoring.config import EngineConfig


class OnnxEngine(BankedEngine):
    """`scoring.engine.Engine` on ONNX Runtime, CPU or CUDA, fp32 and on a CPU int8."""

    equal_lengths = True

    def __init__(
        self, backbone: Backbone, store: ArtifactStore, config: EngineConfig, *, device: str = "cpu"
    ) -> None:
        """Make an engine without scorers.

        Args:
            backbone: loaded on the CPU; its weights are copied into a graph
            store: where scorers and extractors are read
            config: how answers are cut into batches, and in what precision they run
            device: "cpu" or "cuda", where the graph runs

        Raises:
            EngineUnavailableError: the encoder's family has no graph, or the device is not to be had.
        """
        if not is_bert_like(backbone):
            raise EngineUnavailableError(
                f"engine onnx: family {backbone.family} has no graph; set the engine to torch"
            )
        if config.merged_extractor is not None:
            raise EngineUnavailableError("engine onnx: merges no extractor; set the engine to torch")
        adapters = make_bank(backbone, max_bytes=config.max_bank_bytes)
        encoder = OnnxEncoder(backbone, adapters, config, device=device)
        self._device = device
        super().__init__(
            backbone,
            store,
            config,
            encoder=encoder,
            adapters=adapters,
            can_int8=config.precision != "fp32" and encoder.can_int8,
        )

    def title(self, *, is_int8: bool) -> str:
        """Engine, version, device, a precision and the kind of forward."""
        precision = "int8" if is_int8 else "fp32"
        return f"onnxruntime {onnxruntime.__version__} {self._device} {precision} fused"
