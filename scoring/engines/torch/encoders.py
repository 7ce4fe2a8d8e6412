"""The forwards of one backbone over one bank: which one fits its family and device, in fp32 and in int8.

A batch of rows comes in and goes to the forward of its precision; knows no heads and no texts.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from torch import nn

from scoring.bank import AdapterBank
from scoring.engines.torch.anatomy import is_bert_like, layer_paths, sites_of
from scoring.engines.torch.bert import BertEncoder
from scoring.engines.torch.hooked import HookedEncoder
from scoring.engines.torch.kernels import fp32_kernel, int8_works
from scoring.engines.torch.layouts import PackedLayout, PaddedLayout
from scoring.engines.torch.linear import DenseLinear, Int8Linear
from scoring.engines.torch.smoothing import input_ranges
from scoring.errors import IncompatibleArtifactError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from scoring.backbone import Backbone
    from scoring.engines.banked import Encoder
    from scoring.engines.rows import Rows
    from scoring.engines.torch.layouts import Layout
    from scoring.engines.torch.linear import FrozenLinear

logger = logging.getLogger(__name__)


class Encoders:
    """One backbone's forwards; int8 is built when a row first asks for it."""

    def __init__(
        self, backbone: Backbone, bank: AdapterBank, folded: Mapping[str, nn.Linear] | None = None
    ) -> None:
        """Choose the forward.

        Args:
            backbone: the encoder
            bank: the adapters of the rows
            folded: layers that take the encoder's own layers' places, by path

        Raises:
            IncompatibleArtifactError: layers are to be replaced in an encoder without a fast forward.
        """
        self._folded = folded or {}
        self._backbone = backbone
        self._bank = bank
        self._is_fast = is_bert_like(backbone)
        self._int8: Encoder | None = None
        if not self._is_fast:
            if folded:
                raise IncompatibleArtifactError(
                    f"family {backbone.family} has no fast forward, so that no extractor can be merged into "
                    "it; unset the merged extractor"
                )
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
            backbone,
            self._packed if is_cpu else self._padded,
            lambda _, layers: kernel(layers),
            folded=self._folded,
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


def make_bank(backbone: Backbone, *, max_bytes: int | None = None) -> AdapterBank:
    """An empty bank whose sites are those of the forward that will run."""
    model = backbone.model
    if is_bert_like(backbone):
        groups = [group for paths in layer_paths(backbone) for group in paths.sites]
    else:
        groups = [(path,) for path, module in model.named_modules() if isinstance(module, nn.Linear)]
    return AdapterBank(sites_of(model, groups), device=backbone.device, max_bytes=max_bytes)
