"""Where each input channel of each linear layer lies, and how far it swings, on sentences that never change.

int8 takes the middle of channels away and moves their spread from activations into weights. Both follow from
the backbone alone, so that a score does not depend on which scorers happen to be loaded; what lies further
out costs precision and is never clipped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from scoring.bank import AdapterBank
from scoring.engines.rows import Reading, Rows
from scoring.engines.samples import SAMPLE_TEXTS
from scoring.engines.torch.anatomy import layer_paths
from scoring.engines.torch.bert import BertEncoder
from scoring.engines.torch.layouts import PackedLayout
from scoring.engines.torch.linear import DenseLinear, InputRange

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from scoring.backbone import Backbone

#: GELU's least value is -0.16997 (Hendrycks and Gimpel, 2016); what leaves it is the input of the last site.
GELU_FLOOR = -0.17
_MAX_TOKENS = 128


def input_ranges(backbone: Backbone) -> dict[str, InputRange]:
    """Where the inputs of each site lie."""
    recorders: dict[str, _Recorder] = {}
    empty = AdapterBank({}, device=backbone.device)

    def lay_out(rows: Rows) -> PackedLayout:
        return PackedLayout(rows, empty, backbone.device)

    def record(site: str, layers: Sequence[nn.Linear]) -> _Recorder:
        return recorders.setdefault(site, _Recorder(layers))

    encoder = BertEncoder(backbone, lay_out, record)
    with torch.inference_mode():
        for text in SAMPLE_TEXTS:
            (ids,) = backbone.encode([text], _MAX_TOKENS)
            encoder.features(Rows.of([(Reading(0, _MAX_TOKENS, "mean"), ids)]))
    floored = {paths.narrow for paths in layer_paths(backbone)}
    return {site: one.range(has_floor=site in floored) for site, one in recorders.items()}


class _Recorder:
    """A linear layer in fp32 that remembers its inputs."""

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        self._linear = DenseLinear(layers)
        self._inputs: list[Tensor] = []

    def __call__(self, x: Tensor) -> Tensor:
        self._inputs.append(x.clone())
        return self._linear(x)

    def range(self, *, has_floor: bool) -> InputRange:
        """About the mean by the standard deviation; above a floor by the greatest value."""
        inputs = torch.cat(self._inputs)
        if has_floor:
            return InputRange(inputs.abs().amax(0), torch.full(inputs.shape[1:], GELU_FLOOR), is_floor=True)
        return InputRange(inputs.std(0), inputs.mean(0))
