"""One item's network while it is trained: the shared encoder's weights, a LoRA adapter and a head.

Padded token ids come in, logits of all traits go out. The adapter is PEFT's, so that what is trained here is
by construction what PEFT reads back.
"""

from __future__ import annotations

import copy
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn

from scoring.training.batches import padded, sorted_batches

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from scoring.backbone import Backbone
    from scoring.config import Pooling, TrainingConfig

_EVALUATION_BATCH_SIZE = 64
_PEFT_PREFIX = "base_model.model."


class ItemNetwork(nn.Module):
    """Adapter and head of one item on a frozen backbone.

    The encoder is a copy of the backbone's modules around the very same weight tensors: it costs no memory,
    and the backbone itself is never touched, whatever happens during training.
    """

    def __init__(self, backbone: Backbone, num_logits: int, *, config: TrainingConfig) -> None:
        super().__init__()
        self._pad_id = backbone.pad_id
        self._pooling: Pooling = config.pooling
        self._encoder = _with_adapter(backbone, config)
        self._dropout = nn.Dropout(config.head_dropout)
        self.head = nn.Linear(backbone.hidden_size, num_logits)
        self.to(backbone.device)

    def forward(self, token_ids: Sequence[Sequence[int]]) -> Tensor:
        """Logits [batch, num_logits] of unpadded token ids [batch][num_tokens]."""
        device = self.head.weight.device
        ids, mask = (part.to(device) for part in padded(token_ids, pad_id=self._pad_id))
        states = self._encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        logits: Tensor = self.head(self._dropout(_pool(states, mask, self._pooling)))
        return logits

    @torch.no_grad()
    def predict(self, token_ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Logits [num_answers, num_logits] in evaluation mode, in the order of the answers."""
        self.eval()
        logits = np.empty((len(token_ids), self.head.out_features), dtype=np.float32)
        lengths = np.array([len(ids) for ids in token_ids], dtype=np.int64)
        for batch in sorted_batches(lengths, _EVALUATION_BATCH_SIZE):
            logits[batch] = self([token_ids[index] for index in batch]).cpu().numpy()
        return logits

    def adapter_parameters(self) -> list[nn.Parameter]:
        """A and B of every adapted layer."""
        return [parameter for parameter in self._encoder.parameters() if parameter.requires_grad]

    def adapter_tensors(self) -> dict[str, Tensor]:
        """Copies of A and B under the names by which PEFT stores them."""
        return {
            _PEFT_PREFIX + name.replace(".default.", "."): parameter.detach().cpu().clone()
            for name, parameter in self._encoder.named_parameters()
            if parameter.requires_grad
        }

    def trained_state(self) -> list[Tensor]:
        """Copies of all trained tensors, for `restore`."""
        return [parameter.detach().clone() for parameter in self._trained()]

    @torch.no_grad()
    def restore(self, state: list[Tensor]) -> None:
        """Put back what `trained_state` gave."""
        for parameter, saved in zip(self._trained(), state, strict=True):
            parameter.copy_(saved)

    def _trained(self) -> list[nn.Parameter]:
        return [*self.adapter_parameters(), *self.head.parameters()]


def _with_adapter(backbone: Backbone, config: TrainingConfig) -> nn.Module:
    weights = chain(backbone.model.parameters(), backbone.model.buffers())
    encoder = copy.deepcopy(backbone.model, memo={id(weight): weight for weight in weights})
    lora = LoraConfig(
        r=config.lora.rank,
        lora_alpha=config.lora.alpha,  # type: ignore[arg-type]
        lora_dropout=config.lora.dropout,
        target_modules=list(config.lora.target_modules),
    )
    adapted: nn.Module = inject_adapter_in_model(lora, encoder)
    return adapted


def _pool(states: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """Token states [batch, tokens, hidden] to features [batch, hidden]."""
    if pooling == "cls":
        return states[:, 0]
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(dim=1) / weights.sum(dim=1)
