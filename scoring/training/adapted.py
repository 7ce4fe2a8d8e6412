"""A LoRA adapter and a head on the last layers of a frozen encoder.

The adapter is PEFT's, so that what is trained here is by construction what PEFT reads back.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from peft import LoraConfig, inject_adapter_in_model
from torch.nn.utils.rnn import pad_sequence

from scoring.errors import InvalidInputError
from scoring.training.layers import LowerLayers, UpperLayers, layer_path
from scoring.training.network import Inputs, ItemNetwork

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from scoring.backbone import Backbone
    from scoring.config import LoraShape, TrainingConfig


class AdaptedNetwork(ItemNetwork):
    """Adapter and head (Hu et al., 2021): method "lora"."""

    def __init__(self, backbone: Backbone, num_logits: int, *, config: TrainingConfig) -> None:
        super().__init__(backbone, num_logits, config=config)
        self._layer_path = layer_path(backbone)
        self._num_lower = _num_lower(backbone, config)
        self._lower = LowerLayers(backbone, self._num_lower)
        self._upper = UpperLayers(backbone, self._num_lower)
        _inject(self._upper.encoder, config.lora)
        self.to(backbone.device)

    def inputs(self, token_ids: list[list[int]]) -> Inputs:
        """Run the frozen lower layers, once for all epochs."""
        return Inputs(token_ids, self._lower.states(token_ids))

    def features(self, inputs: Inputs, batch: NDArray[np.int64]) -> Tensor:
        """Features [batch, hidden] of the answers with these indices."""
        ids, mask = self.rectangle([inputs.token_ids[index] for index in batch])
        states = pad_sequence([inputs.states[index] for index in batch], batch_first=True)
        return self.pooled(self._upper(ids, mask, states.to(ids.device)), mask)

    def body_parameters(self) -> list[nn.Parameter]:
        """A and B of every adapted layer."""
        return [parameter for parameter in self._upper.parameters() if parameter.requires_grad]

    def penalised_parameters(self) -> list[nn.Parameter]:
        """A and B of every adapted layer."""
        return self.body_parameters()

    def adapter_tensors(self) -> dict[str, Tensor]:
        """Copies of A and B under the names by which PEFT stores them for the whole encoder."""
        return {
            f"base_model.model.{self._whole_path(name).replace('.default.', '.')}": weight.detach()
            .cpu()
            .clone()
            for name, weight in self._upper.encoder.named_parameters()
            if weight.requires_grad
        }

    def lora_shape(self, lora: LoraShape) -> LoraShape:
        """The shape as it is: where lower layers go without, the target modules are named in full."""
        if self._num_lower == 0:
            return lora
        paths = [name.partition(".lora_")[0] for name in self.adapter_tensors()]
        return replace(
            lora, target_modules=tuple(sorted({path.removeprefix("base_model.model.") for path in paths}))
        )

    def _whole_path(self, path: str) -> str:
        """A path in the upper part as it reads in the whole encoder, where lower layers count too."""
        inner = path.removeprefix(f"{self._layer_path}.")
        if inner == path:
            return path
        index, _, rest = inner.partition(".")
        return f"{self._layer_path}.{int(index) + self._num_lower}.{rest}"


def _num_lower(backbone: Backbone, config: TrainingConfig) -> int:
    if config.num_adapted_layers is None:
        return 0
    if config.num_adapted_layers < 1:
        raise InvalidInputError(f"num_adapted_layers is {config.num_adapted_layers}; at least 1 is needed")
    return max(0, backbone.num_layers - config.num_adapted_layers)


def _inject(encoder: nn.Module, lora: LoraShape) -> None:
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]
        lora_dropout=lora.dropout,
        target_modules=list(lora.target_modules),
    )
    try:
        inject_adapter_in_model(config, encoder)
    except ValueError as error:
        raise InvalidInputError(
            f"target modules {', '.join(lora.target_modules)} are not in this encoder ({error}); "
            "name linear layers as its architecture does"
        ) from error
