"""The BERT family's forward (Devlin et al., 2019), written out so that adapters are data in it.

Takes a layout, gives token states; knows neither items nor heads, nor in which arithmetic its linear layers
run: that is handed in.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from scoring.engines.torch.anatomy import layer_paths

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor, nn

    from scoring.backbone import Backbone
    from scoring.engines.rows import Rows
    from scoring.engines.torch.anatomy import LayerPaths
    from scoring.engines.torch.layouts import Bias, Layout
    from scoring.engines.torch.linear import FrozenLinear

    MakeLinear = Callable[[str, Sequence[nn.Linear]], FrozenLinear]


class BertEncoder:
    """Token states and pooled features of the BERT family, with each row's own adapter."""

    def __init__(
        self,
        backbone: Backbone,
        make_layout: Callable[[Rows], Layout],
        make_linear: MakeLinear,
        *,
        folded: Mapping[str, nn.Linear] | None = None,
    ) -> None:
        """Take the encoder's weights over.

        Args:
            backbone: an encoder for which `anatomy.is_bert_like` holds
            make_layout: how a batch's tokens lie
            make_linear: from a site's name and its layers to the layer that runs
            folded: layers that take the encoder's own layers' places, by path
        """
        model: Any = backbone.model
        embeddings = model.embeddings
        self._make_layout = make_layout
        self._words = embeddings.word_embeddings.weight
        self._positions = position_table(backbone)
        self._norm = _Norm(embeddings.LayerNorm)
        bias = relative_bias(backbone)
        num_heads = int(backbone.config.num_attention_heads)
        part = _parts(model, folded or {})
        self._layers = [
            _Layer(part, paths, make_linear, num_heads=num_heads, bias=bias)
            for paths in layer_paths(backbone)
        ]

    def features(self, rows: Rows) -> Tensor:
        """Pooled features of rows sorted by length [num_rows, hidden]."""
        layout = self._make_layout(rows)
        x = self._words[layout.token_ids] + self._positions[layout.positions]
        x = self._norm(x)
        for layer in self._layers:
            x = layer(x, layout)
        return layout.pool(x)


class _Layer:
    """One transformer layer."""

    def __init__(
        self,
        part: Callable[[str], Any],
        paths: LayerPaths,
        make_linear: MakeLinear,
        *,
        num_heads: int,
        bias: Bias | None,
    ) -> None:
        self._num_heads = num_heads
        self._bias = bias
        self._sites = [group[0] for group in paths.sites]
        self._qkv, self._mix, self._widen, self._narrow = (
            make_linear(group[0], [part(path) for path in group]) for group in paths.sites
        )
        self._mix_norm = _Norm(part(paths.mix_norm))
        self._out_norm = _Norm(part(paths.out_norm))

    def __call__(self, x: Tensor, layout: Layout) -> Tensor:
        qkv_site, mix_site, widen_site, narrow_site = self._sites
        qkv = self._qkv(x)
        layout.adapt(qkv_site, x, qkv)
        context = layout.attend(qkv, self._num_heads, self._bias)
        mixed = self._mix(context)
        layout.adapt(mix_site, context, mixed)
        x = self._mix_norm(mixed.add_(x))
        wide = self._widen(x)
        layout.adapt(widen_site, x, wide)
        # In place: a new block of this size costs more than the function.
        wide = torch.ops.aten.gelu_(wide)
        narrow = self._narrow(wide)
        layout.adapt(narrow_site, wide, narrow)
        return self._out_norm(narrow.add_(x))


def _parts(model: nn.Module, folded: Mapping[str, nn.Linear]) -> Callable[[str], Any]:
    """From a path to the module that is to run."""

    def part(path: str) -> Any:
        return folded[path] if path in folded else model.get_submodule(path)

    return part


class _Norm:
    """Layer normalisation with frozen weights."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        self._shape, self._weight, self._bias, self._eps = (
            norm.normalized_shape,
            norm.weight,
            norm.bias,
            norm.eps,
        )

    def __call__(self, x: Tensor) -> Tensor:
        return functional.layer_norm(x, self._shape, self._weight, self._bias, self._eps)


def position_table(backbone: Backbone) -> Tensor:
    """What is added to a token at each place of a row, from 0 [places, hidden]."""
    model: Any = backbone.model
    embeddings = model.embeddings
    # All but BERT count positions from after the padding index.
    first = 0 if backbone.family == "bert" else embeddings.padding_idx + 1
    table: Tensor = embeddings.position_embeddings.weight[first:]
    if hasattr(embeddings, "token_type_embeddings"):
        # A single segment: its embedding is the same for all tokens and goes into the positions' once.
        table = table + embeddings.token_type_embeddings.weight[0]
    return table


def relative_bias(backbone: Backbone) -> Bias | None:
    """MPNet's addition to attention by distance (Song et al., 2020): length -> [1, heads, length, length]."""
    if backbone.family != "mpnet":
        return None
    model: Any = backbone.model

    @lru_cache(maxsize=512)
    def bias(length: int) -> Tensor:
        found: Tensor = model.encoder.compute_position_bias(torch.empty(1, length, 1, device=backbone.device))
        return found

    return bias
