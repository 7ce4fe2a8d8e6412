"""What an adapter is held against: a head alone on frozen features, and a whole encoder of an item's own."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, cast

import numpy as np
import torch

from scoring.training.batches import sorted_batches
from scoring.training.network import Inputs, ItemNetwork

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from scoring.backbone import Backbone
    from scoring.config import TrainingConfig

_BATCH_SIZE = 64


class HeadNetwork(ItemNetwork):
    """A head on what the frozen encoder gives: method "head". Features are computed once, not every epoch."""

    def __init__(self, backbone: Backbone, num_logits: int, *, config: TrainingConfig) -> None:
        super().__init__(backbone, num_logits, config=config)
        # In a tuple, so that the shared encoder is no part of this module and never put into training mode.
        self._encoder = (backbone.model,)

    @torch.no_grad()
    def inputs(self, token_ids: list[list[int]]) -> Inputs:
        """Run the whole encoder; `states` are features [hidden]."""
        features = [torch.empty(0)] * len(token_ids)
        lengths = np.array([len(ids) for ids in token_ids], dtype=np.int64)
        for batch in sorted_batches(lengths, _BATCH_SIZE):
            ids, mask = self.rectangle([token_ids[index] for index in batch])
            states = self._encoder[0](input_ids=ids, attention_mask=mask).last_hidden_state
            for index, row in zip(batch, self.pooled(states, mask).cpu(), strict=True):
                features[index] = row.clone()
        return Inputs(token_ids, features)

    def features(self, inputs: Inputs, batch: NDArray[np.int64]) -> Tensor:
        """Features [batch, hidden] of the answers with these indices."""
        return torch.stack([inputs.states[index] for index in batch]).to(self.head.weight.device)

    def body_parameters(self) -> list[nn.Parameter]:
        """Nothing."""
        return []


class FullNetwork(ItemNetwork):
    """A copy of the encoder, every weight of it trained, and a head: method "full"."""

    def __init__(self, backbone: Backbone, num_logits: int, *, config: TrainingConfig) -> None:
        super().__init__(backbone, num_logits, config=config)
        self._encoder = copy.deepcopy(backbone.model).requires_grad_(requires_grad=True)

    def inputs(self, token_ids: list[list[int]]) -> Inputs:
        """Nothing is frozen, nothing is run ahead."""
        return Inputs(token_ids, [])

    def features(self, inputs: Inputs, batch: NDArray[np.int64]) -> Tensor:
        """Features [batch, hidden] of the answers with these indices."""
        ids, mask = self.rectangle([inputs.token_ids[index] for index in batch])
        return self.pooled(self._encoder(input_ids=ids, attention_mask=mask).last_hidden_state, mask)

    def body_parameters(self) -> list[nn.Parameter]:
        """Every weight of the encoder."""
        return list(self._encoder.parameters())

    def encoder_weights(self) -> dict[str, Tensor]:
        """Copies of the encoder's weights by name, on the CPU."""
        return {name: one.detach().cpu().clone() for name, one in self._encoder.named_parameters()}

    @torch.no_grad()
    def put_encoder(self, weights: Mapping[str, Tensor]) -> None:
        """Take these weights, named as in `encoder_weights`, for the encoder's own."""
        for name, parameter in self._encoder.named_parameters():
            parameter.copy_(weights[name])

    def save_encoder(self, folder: Path) -> None:
        """Write the encoder so that transformers' AutoModel opens it."""
        cast("PreTrainedModel", self._encoder).save_pretrained(folder)
