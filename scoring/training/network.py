"""One item's network while it is trained: something that turns token ids into features, and a head.

Token ids come in, logits of all traits go out. What is trained beside the head (an adapter, a whole encoder,
nothing) is the business of the three networks built on this one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from scoring.training.batches import padded, sorted_batches

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from scoring.backbone import Backbone
    from scoring.config import LoraShape, Pooling, TrainingConfig

_EVALUATION_BATCH_SIZE = 64


@dataclass(frozen=True, slots=True)
class Inputs:
    """Answers as far as the frozen part of a network brings them.

    Attributes:
        token_ids: ids with special tokens, unpadded [num_answers][num_tokens]
        states: what the frozen part gives for each answer [num_answers]: [num_tokens, hidden] between two
            layers, [hidden] after the last one; nothing where no part is frozen
    """

    token_ids: list[list[int]]
    states: list[Tensor]

    def lengths(self) -> NDArray[np.int64]:
        """Number of tokens of each answer [num_answers]."""
        return np.array([len(ids) for ids in self.token_ids], dtype=np.int64)


class ItemNetwork(nn.Module, ABC):
    """Extractor and head of one item in training; the backbone itself is never changed."""

    def __init__(self, backbone: Backbone, num_logits: int, *, config: TrainingConfig) -> None:
        super().__init__()
        self._pad_id = backbone.pad_id
        self._pooling: Pooling = config.pooling
        self._dropout = nn.Dropout(config.head_dropout)
        self.head = nn.Linear(backbone.hidden_size, num_logits)
        self.to(backbone.device)

    @abstractmethod
    def inputs(self, token_ids: list[list[int]]) -> Inputs:
        """Run what is frozen, once for all epochs."""

    @abstractmethod
    def features(self, inputs: Inputs, batch: NDArray[np.int64]) -> Tensor:
        """Features [batch, hidden] of the answers with these indices."""

    @abstractmethod
    def body_parameters(self) -> list[nn.Parameter]:
        """Everything that training moves beside the head."""

    def penalised_parameters(self) -> list[nn.Parameter]:
        """The weights whose squared Frobenius norms are part of the loss."""
        return []

    def adapter_tensors(self) -> dict[str, Tensor]:
        """Copies of A and B under the names by which PEFT stores them; none without an adapter."""
        return {}

    def lora_shape(self, lora: LoraShape) -> LoraShape:
        """The adapter's shape as it is stored."""
        return lora

    def forward(self, inputs: Inputs, batch: NDArray[np.int64]) -> Tensor:
        """Logits [batch, num_logits] of the answers with these indices."""
        logits: Tensor = self.head(self._dropout(self.features(inputs, batch)))
        return logits

    @torch.no_grad()
    def predict(self, inputs: Inputs) -> NDArray[np.float32]:
        """Logits [num_answers, num_logits] in evaluation mode, in the order of the answers."""
        self.eval()
        logits = np.empty((len(inputs.token_ids), self.head.out_features), dtype=np.float32)
        for batch in sorted_batches(inputs.lengths(), _EVALUATION_BATCH_SIZE):
            logits[batch] = self(inputs, batch).cpu().numpy()
        return logits

    def trained_state(self) -> list[Tensor]:
        """Copies of all trained tensors, for `restore`."""
        return [parameter.detach().clone() for parameter in self.trained_parameters()]

    @torch.no_grad()
    def restore(self, state: list[Tensor]) -> None:
        """Put back what `trained_state` gave."""
        for parameter, saved in zip(self.trained_parameters(), state, strict=True):
            parameter.copy_(saved)

    def trained_parameters(self) -> list[nn.Parameter]:
        """Everything that training moves: the body, then the head."""
        return [*self.body_parameters(), *self.head.parameters()]

    def rectangle(self, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Token ids and attention mask on the network's device, both [batch, max_tokens]."""
        ids, mask = padded(rows, pad_id=self._pad_id)
        device = self.head.weight.device
        return ids.to(device), mask.to(device)

    def pooled(self, states: Tensor, mask: Tensor) -> Tensor:
        """Token states [batch, tokens, hidden] to features [batch, hidden]."""
        if self._pooling == "cls":
            return states[:, 0]
        weights = mask.unsqueeze(-1).to(states.dtype)
        return (states * weights).sum(dim=1) / weights.sum(dim=1)
