"""Features of answers by any update of the backbone's last layers; what lies below runs once for all.

Texts come in, features and second moments of layers' inputs go out. The update is folded into copies of the
weights, so that any rank costs the same and no layer is wrapped. Knows no head and no level.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from scoring.errors import IncompatibleArtifactError
from scoring.text import normalise
from scoring.training.batches import padded, sorted_batches
from scoring.training.layers import LowerLayers, UpperLayers, layer_path
from scoring.training.network import Inputs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from torch.utils.hooks import RemovableHandle

    from scoring.backbone import Backbone
    from scoring.config import Pooling
    from scoring.merging.updates import Update

_BATCH_SIZE = 64


def num_lower_layers(modules: Iterable[str], backbone: Backbone) -> int:
    """How many layers lie below all of these linear layers.

    Raises:
        IncompatibleArtifactError: a module is in no layer of this encoder.
    """
    start = f"{layer_path(backbone)}."
    numbers = []
    for module in modules:
        number = module.removeprefix(start).partition(".")[0]
        if not module.startswith(start) or not number.isdigit():
            raise IncompatibleArtifactError(
                f"adapter: {module} is in no layer of backbone {backbone.name}; it cannot be merged"
            )
        numbers.append(int(number))
    return min(numbers, default=backbone.num_layers - 1)


def thinned(inputs: Inputs, max_answers: int) -> Inputs:
    """At most so many answers, evenly spaced."""
    num_answers = len(inputs.token_ids)
    if num_answers <= max_answers:
        return inputs
    chosen = np.linspace(0, num_answers - 1, max_answers).round().astype(int).tolist()
    return Inputs([inputs.token_ids[place] for place in chosen], [inputs.states[place] for place in chosen])


def joined(parts: Sequence[Inputs]) -> Inputs:
    """Several lots of answers as one, in this order."""
    return Inputs(
        [ids for part in parts for ids in part.token_ids], [state for part in parts for state in part.states]
    )


class SharedReader:
    """Reads answers once through the lower layers, then as often as wanted through the upper ones."""

    def __init__(
        self, backbone: Backbone, *, num_lower: int, pooling: Pooling = "mean", max_tokens: int = 128
    ) -> None:
        self.backbone = backbone
        self._num_lower = num_lower
        self._pooling = pooling
        self._max_tokens = max_tokens
        self._lower = LowerLayers(backbone, num_lower)
        self._upper = UpperLayers(backbone, num_lower).eval()
        self._path = layer_path(backbone)

    @property
    def hidden_size(self) -> int:
        """Width of a feature."""
        return self.backbone.hidden_size

    def read(self, texts: Sequence[str]) -> Inputs:
        """Normalise, tokenise and run the lower layers."""
        ids = self.encode(texts)
        return Inputs(ids, self._lower.states(ids))

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each normalised text [num_texts][tokens]."""
        return self.backbone.encode([normalise(text) for text in texts], self._max_tokens)

    @torch.no_grad()
    def features(self, inputs: Inputs, updates: Mapping[str, Update]) -> NDArray[np.float32]:
        """Features [num_answers, hidden] with these updates folded in."""
        features = np.empty((len(inputs.token_ids), self.hidden_size), dtype=np.float32)
        with self._folded(updates):
            for batch, last, mask in self._passes(inputs):
                features[batch] = self._pooled(last, mask).cpu().numpy()
        return features

    @torch.no_grad()
    def second_moments(self, inputs: Inputs, updates: Mapping[str, Update]) -> dict[str, Tensor]:
        """Mean over tokens of `x x^T`, x being what enters an updated layer [in, in]; these are folded in."""
        sums: dict[str, Tensor] = {}
        mask = torch.empty(0)

        def gather(module: str) -> RemovableHandle:
            def seen(_module: nn.Module, given: tuple[Tensor, ...]) -> None:
                rows = given[0][mask.bool()]
                sums[module] = sums.get(module, 0) + (rows.t() @ rows).double()

            return self._linear(module).register_forward_pre_hook(seen)

        with self._folded(updates):
            hooks = [gather(module) for module in updates]
            try:
                for batch in sorted_batches(inputs.lengths(), _BATCH_SIZE):
                    ids, mask, states = self._rectangle(inputs, batch)
                    self._upper(ids, mask, states)
            finally:
                for hook in hooks:
                    hook.remove()
        num_tokens = int(inputs.lengths().sum())
        return {module: total.cpu() / max(1, num_tokens) for module, total in sums.items()}

    def weight_gradients(
        self,
        inputs: Inputs,
        modules: Sequence[str],
        loss: Callable[[Tensor, NDArray[np.int64]], Tensor],
    ) -> dict[str, Tensor]:
        """Gradient of a loss at the bare backbone with respect to some linear layers' weights [out, in].

        Args:
            inputs: answers.
            modules: linear layers above the cut.
            loss: of the features [batch, hidden] of the answers with these indices [batch]
        """
        linears = {module: self._linear(module) for module in modules}
        plain = {module: linear.weight for module, linear in linears.items()}
        try:
            for linear in linears.values():
                linear.weight = nn.Parameter(linear.weight.detach().clone())
            for batch, last, mask in self._passes(inputs):
                loss(self._pooled(last, mask), batch).backward()  # type: ignore[no-untyped-call]
            grads = {module: linear.weight.grad for module, linear in linears.items()}
        finally:
            for module, linear in linears.items():
                linear.weight = plain[module]
        return {module: grad for module, grad in grads.items() if grad is not None}

    def _passes(self, inputs: Inputs) -> Iterator[tuple[NDArray[np.int64], Tensor, Tensor]]:
        for batch in sorted_batches(inputs.lengths(), _BATCH_SIZE):
            ids, mask, states = self._rectangle(inputs, batch)
            yield batch, self._upper(ids, mask, states), mask

    def _rectangle(self, inputs: Inputs, batch: NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor]:
        ids, mask = padded([inputs.token_ids[index] for index in batch], pad_id=self.backbone.pad_id)
        states = pad_sequence([inputs.states[index] for index in batch], batch_first=True)
        device = self.backbone.device
        return ids.to(device), mask.to(device), states.to(device)

    def _pooled(self, states: Tensor, mask: Tensor) -> Tensor:
        if self._pooling == "cls":
            return states[:, 0]
        weights = mask.unsqueeze(-1).to(states.dtype)
        return (states * weights).sum(dim=1) / weights.sum(dim=1)

    @contextmanager
    def _folded(self, updates: Mapping[str, Update]) -> Iterator[None]:
        """For the length of the block, W + B A in place of W; the backbone's own tensors stay as they are."""
        plain: dict[nn.Linear, nn.Parameter] = {}
        try:
            for module, update in updates.items():
                linear = self._linear(module)
                plain[linear] = cast("nn.Parameter", linear.weight)
                delta = update.dense().to(linear.weight.device)
                whole = (linear.weight.double() + delta).to(linear.weight.dtype)
                linear.weight = nn.Parameter(whole, requires_grad=False)
            yield
        finally:
            for linear, weight in plain.items():
                linear.weight = weight

    def _linear(self, module: str) -> nn.Linear:
        """The copied linear layer that stands where `module` does in the whole encoder."""
        number, _, rest = module.removeprefix(f"{self._path}.").partition(".")
        try:
            found = self._upper.encoder.get_submodule(f"{self._path}.{int(number) - self._num_lower}.{rest}")
        except (AttributeError, ValueError) as error:
            raise IncompatibleArtifactError(
                f"adapter: backbone {self.backbone.name} has no linear layer {module} above layer "
                f"{self._num_lower}"
            ) from error
        if not isinstance(found, nn.Linear):
            raise IncompatibleArtifactError(f"adapter: {module} is no linear layer")
        return found
