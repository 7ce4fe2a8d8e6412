"""How far each input channel of each linear layer swings, on sentences that never change.

int8 moves the spread of channels from activations into weights by these ranges. They follow from the backbone
alone, so that a score does not depend on which scorers happen to be loaded; a range that is exceeded costs
precision and never clips.
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
    """How far the inputs of each site swing."""
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
    floors = {paths.narrow: GELU_FLOOR for paths in layer_paths(backbone)}
    return {site: InputRange(one.greatest, floors.get(site)) for site, one in recorders.items()}


class _Recorder:
    """A linear layer in fp32 that remembers how far its inputs went."""

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        self._linear = DenseLinear(layers)
        self.greatest = torch.zeros(layers[0].in_features)

    def __call__(self, x: Tensor) -> Tensor:
        self.greatest = torch.maximum(self.greatest, x.abs().amax(0))
        return self._linear(x)
