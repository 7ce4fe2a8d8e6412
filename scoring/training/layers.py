"""The encoder cut in two between layers: a lower part that runs once, an upper part that is trained.

While adapters stand on the upper layers only, what enters those layers never changes during training; it is
computed once for each answer and kept. Works for every encoder whose layers stand in one `ModuleList` and
take the hidden states first (BERT, RoBERTa, MPNet, DistilBERT, ModernBERT, ...).

Both parts are copies of the backbone's modules around the very same weight tensors: they cost no memory, and
the backbone itself is never touched, whatever happens during training.
"""

from __future__ import annotations

import copy
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from scoring.errors import InvalidInputError
from scoring.training.batches import padded, sorted_batches

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scoring.backbone import Backbone

_BATCH_SIZE = 64


class LowerLayers:
    """Embeddings and the first `num_layers` layers of an encoder, without gradient and without dropout."""

    def __init__(self, backbone: Backbone, num_layers: int) -> None:
        self._backbone = backbone
        self._encoder, layers = _copied(backbone)
        # The layer after the last one shows, as its input, what the lower layers give.
        _keep(self._encoder, backbone, layers[: num_layers + 1])
        self._seen = torch.empty(0)
        layers[num_layers].register_forward_pre_hook(self._see)

    @torch.no_grad()
    def states(self, token_ids: Sequence[Sequence[int]]) -> list[Tensor]:
        """What enters the next layer: for each answer [num_tokens, hidden], on the CPU."""
        lengths = np.array([len(ids) for ids in token_ids], dtype=np.int64)
        states = [torch.empty(0)] * len(token_ids)
        for batch in sorted_batches(lengths, _BATCH_SIZE):
            ids, mask = padded([token_ids[index] for index in batch], pad_id=self._backbone.pad_id)
            device = self._backbone.device
            self._encoder(input_ids=ids.to(device), attention_mask=mask.to(device))
            for index, row in zip(batch, self._seen.cpu(), strict=True):
                states[index] = row[: lengths[index]].clone()
        return states

    def _see(self, _module: nn.Module, inputs: tuple[Any, ...]) -> None:
        self._seen = inputs[0]


class UpperLayers(nn.Module):
    """The last layers of an encoder, fed with stored states in place of what the embeddings give."""

    def __init__(self, backbone: Backbone, num_lower: int) -> None:
        super().__init__()
        self.encoder, layers = _copied(backbone)
        _keep(self.encoder, backbone, layers[num_lower:])
        self._fed = torch.empty(0)
        layers[num_lower].register_forward_pre_hook(self._feed)

    def forward(self, ids: Tensor, mask: Tensor, states: Tensor) -> Tensor:
        """Last hidden states [batch, tokens, hidden].

        Args:
            ids: token ids, for whatever else the encoder derives from them [batch, tokens]
            mask: attention mask [batch, tokens]
            states: what enters the first of these layers [batch, tokens, hidden]
        """
        self._fed = states
        last: Tensor = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        return last

    def _feed(self, _module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return (self._fed, *inputs[1:])


def layer_path(backbone: Backbone) -> str:
    """Where the encoder's layers stand: "encoder.layer" for BERT.

    Raises:
        InvalidInputError: the encoder does not keep all its layers in one list.
    """
    for path, module in backbone.model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == backbone.num_layers:
            return str(path)
    raise InvalidInputError(
        f"backbone {backbone.name!r}: its {backbone.num_layers} layers do not stand in one list, so that "
        "adapters cannot be trained on it; choose another encoder"
    )


def _copied(backbone: Backbone) -> tuple[nn.Module, list[nn.Module]]:
    weights = chain(backbone.model.parameters(), backbone.model.buffers())
    encoder = copy.deepcopy(backbone.model, memo={id(weight): weight for weight in weights})
    return encoder, list(encoder.get_submodule(layer_path(backbone)))  # type: ignore[call-overload]


def _keep(encoder: nn.Module, backbone: Backbone, layers: list[nn.Module]) -> None:
    encoder.set_submodule(layer_path(backbone), nn.ModuleList(layers))
