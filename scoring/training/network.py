"""One item's network while it is trained: the shared encoder's weights, a LoRA adapter and a head.

Token ids come in, logits of all traits go out. The adapter is PEFT's, so that what is trained here is by
construction what PEFT reads back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from scoring.errors import InvalidInputError
from scoring.training.batches import padded, sorted_batches
from scoring.training.layers import LowerLayers, UpperLayers, layer_path

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scoring.backbone import Backbone
    from scoring.config import LoraShape, Pooling, TrainingConfig

_EVALUATION_BATCH_SIZE = 64


@dataclass(frozen=True, slots=True)
class Inputs:
    """Answers as far as the frozen layers bring them.

    Attributes:
        token_ids: ids with special tokens, unpadded [num_answers][num_tokens]
        states: what enters the first adapted layer [num_answers] times [num_tokens, hidden]
    """

    token_ids: list[list[int]]
    states: list[Tensor]

    def lengths(self) -> NDArray[np.int64]:
        """Number of tokens of each answer [num_answers]."""
        return np.array([len(ids) for ids in self.token_ids], dtype=np.int64)


class ItemNetwork(nn.Module):
    """Adapter and head of one item on the last layers of a frozen backbone."""

    def __init__(self, backbone: Backbone, num_logits: int, *, config: TrainingConfig) -> None:
        super().__init__()
        self._pad_id = backbone.pad_id
        self._pooling: Pooling = config.pooling
        self._layer_path = layer_path(backbone)
        self._num_lower = _num_lower(backbone, config)
        self._lower = LowerLayers(backbone, self._num_lower)
        self._upper = UpperLayers(backbone, self._num_lower)
        _inject(self._upper.encoder, config.lora)
        self._dropout = nn.Dropout(config.head_dropout)
        self.head = nn.Linear(backbone.hidden_size, num_logits)
        self.to(backbone.device)

    def inputs(self, token_ids: list[list[int]]) -> Inputs:
        """Run the frozen lower layers, once for all epochs."""
        return Inputs(token_ids, self._lower.states(token_ids))

    def forward(self, inputs: Inputs, batch: NDArray[np.int64]) -> Tensor:
        """Logits [batch, num_logits] of the answers with these indices."""
        device = self.head.weight.device
        ids, mask = padded([inputs.token_ids[index] for index in batch], pad_id=self._pad_id)
        states = pad_sequence([inputs.states[index] for index in batch], batch_first=True)
        mask = mask.to(device)
        last = self._upper(ids.to(device), mask, states.to(device))
        logits: Tensor = self.head(self._dropout(_pool(last, mask, self._pooling)))
        return logits

    @torch.no_grad()
    def predict(self, inputs: Inputs) -> NDArray[np.float32]:
        """Logits [num_answers, num_logits] in evaluation mode, in the order of the answers."""
        self.eval()
        logits = np.empty((len(inputs.token_ids), self.head.out_features), dtype=np.float32)
        for batch in sorted_batches(inputs.lengths(), _EVALUATION_BATCH_SIZE):
            logits[batch] = self(inputs, batch).cpu().numpy()
        return logits

    def adapter_parameters(self) -> list[nn.Parameter]:
        """A and B of every adapted layer."""
        return [parameter for parameter in self._upper.parameters() if parameter.requires_grad]

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

    def trained_state(self) -> list[Tensor]:
        """Copies of all trained tensors, for `restore`."""
        return [parameter.detach().clone() for parameter in self.trained_parameters()]

    @torch.no_grad()
    def restore(self, state: list[Tensor]) -> None:
        """Put back what `trained_state` gave."""
        for parameter, saved in zip(self.trained_parameters(), state, strict=True):
            parameter.copy_(saved)

    def trained_parameters(self) -> list[nn.Parameter]:
        """Everything that training moves: the adapter, then the head."""
        return [*self.adapter_parameters(), *self.head.parameters()]

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


def _pool(states: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """Token states [batch, tokens, hidden] to features [batch, hidden]."""
    if pooling == "cls":
        return states[:, 0]
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(dim=1) / weights.sum(dim=1)
