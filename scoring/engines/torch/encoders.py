"""The forwards of one backbone over one bank: which one fits its family and device, in fp32 and in int8.

A batch of rows comes in and goes to the forward of its precision; knows no heads and no texts.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

from torch import nn

from scoring.bank import AdapterBank
from scoring.engines.torch.anatomy import is_bert_like, layer_paths, sites_of
from scoring.engines.torch.bert import BertEncoder
from scoring.engines.torch.hooked import HookedEncoder
from scoring.engines.torch.kernels import fp32_kernel, int8_works
from scoring.engines.torch.layouts import PackedLayout, PaddedLayout
from scoring.engines.torch.linear import DenseLinear, Int8Linear
from scoring.engines.torch.smoothing import input_ranges

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from scoring.backbone import Backbone
    from scoring.engines.rows import Rows
    from scoring.engines.torch.layouts import Layout
    from scoring.engines.torch.linear import FrozenLinear

logger = logging.getLogger(__name__)


class Encoder(Protocol):
    """Pooled features of a batch of rows, each with its own adapter."""

    def features(self, rows: Rows) -> Tensor:
        """Features of rows sorted by length, all of one precision [num_rows, hidden]."""


class Encoders:
    """One backbone's forwards; int8 is built when a row first asks for it."""

    def __init__(self, backbone: Backbone, bank: AdapterBank) -> None:
        self._backbone = backbone
        self._bank = bank
        self._is_fast = is_bert_like(backbone)
        self._int8: Encoder | None = None
        if not self._is_fast:
            logger.warning(
                "no fast forward for family %s; running transformers' own, slower",
                backbone.family,
                extra={"action": "encoder_fallback", "family": backbone.family},
            )
            self.forward = "transformers"
            self._fp32: Encoder = HookedEncoder(backbone, bank)
            return
        is_cpu = backbone.device.type == "cpu"
        self.forward = "packed" if is_cpu else "padded"
        kernel = fp32_kernel() if is_cpu else DenseLinear
        self._fp32 = BertEncoder(
            backbone, self._packed if is_cpu else self._padded, lambda _, layers: kernel(layers)
        )

    @property
    def can_int8(self) -> bool:
        """Whether int8 computes right here; whether it is also sooner is another question."""
        return self._is_fast and self._backbone.device.type == "cpu" and int8_works()

    def features(self, rows: Rows) -> Tensor:
        """Features of rows sorted by length, all of one precision [num_rows, hidden]."""
        if not rows.is_int8.any():
            return self._fp32.features(rows)
        if self._int8 is None:
            self._int8 = self._build_int8()
        return self._int8.features(rows)

    def _build_int8(self) -> Encoder:
        ranges = input_ranges(self._backbone)

        def quantised(site: str, layers: Sequence[nn.Linear]) -> FrozenLinear:
            return Int8Linear(layers, ranges[site])

        return BertEncoder(self._backbone, self._packed, quantised)

    def _packed(self, rows: Rows) -> Layout:
        return PackedLayout(rows, self._bank, self._backbone.device)

    def _padded(self, rows: Rows) -> Layout:
        return PaddedLayout(rows, self._bank, self._backbone.device, pad_id=self._backbone.pad_id)


def make_bank(backbone: Backbone) -> AdapterBank:
    """An empty bank whose sites are those of the forward that will run."""
    model = backbone.model
    if is_bert_like(backbone):
        groups = [group for paths in layer_paths(backbone) for group in paths.sites]
    else:
        groups = [(path,) for path, module in model.named_modules() if isinstance(module, nn.Linear)]
    return AdapterBank(sites_of(model, groups), device=backbone.device)
