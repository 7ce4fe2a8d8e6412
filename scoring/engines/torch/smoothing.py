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
from scoring.engines.torch.bert import BertEncoder
from scoring.engines.torch.layouts import PackedLayout
from scoring.engines.torch.linear import DenseLinear

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from scoring.backbone import Backbone

_MAX_TOKENS = 128


def input_ranges(backbone: Backbone) -> dict[str, Tensor]:
    """Greatest absolute value of each input channel, by site [in]."""
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
    return {site: recorder.range for site, recorder in recorders.items()}


class _Recorder:
    """A linear layer in fp32 that remembers how far its inputs went."""

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        self._linear = DenseLinear(layers)
        self.range = torch.zeros(layers[0].in_features)

    def __call__(self, x: Tensor) -> Tensor:
        self.range = torch.maximum(self.range, x.abs().amax(0))
        return self._linear(x)
