"""The BERT family's forward (Devlin et al., 2019), written out so that adapters are data in it.

BERT, RoBERTa, XLM-R and CamemBERT share it: post-layer-norm, learned positions, exact GELU. Takes a layout,
gives token states; knows neither items nor heads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.nn import functional

from scoring.engines.torch.linear import FrozenLinear

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn
    from transformers.models.bert.modeling_bert import BertLayer

    from scoring.backbone import Backbone
    from scoring.engines.rows import Rows
    from scoring.engines.torch.layouts import Layout

_FAMILIES = frozenset({"bert", "roberta", "xlm-roberta", "camembert"})


def is_bert_like(backbone: Backbone) -> bool:
    """Whether this forward computes what the encoder's own would."""
    config = backbone.config
    return (
        backbone.family in _FAMILIES
        and getattr(config, "hidden_act", None) == "gelu"
        and getattr(config, "position_embedding_type", "absolute") in {None, "absolute"}
        and not getattr(config, "is_decoder", False)
    )


class BertEncoder:
    """Token states and pooled features of the BERT family, with each row's own adapter."""

    def __init__(self, backbone: Backbone, make_layout: Callable[[Rows], Layout]) -> None:
        model: Any = backbone.model
        embeddings = model.embeddings
        self._make_layout = make_layout
        self._words = embeddings.word_embeddings.weight
        # All but BERT count positions from after the padding index.
        first = 0 if backbone.family == "bert" else backbone.pad_id + 1
        # A single segment: its embedding is the same for all tokens and goes into the positions' once.
        self._positions = (
            embeddings.position_embeddings.weight[first:] + embeddings.token_type_embeddings.weight[0]
        )
        self._norm = _Norm(embeddings.LayerNorm)
        self._layers = [
            _Layer(layer, path=f"encoder.layer.{index}") for index, layer in enumerate(model.encoder.layer)
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
    """One transformer layer; the paths are the ones that PEFT names its weights after."""

    def __init__(self, layer: BertLayer, *, path: str) -> None:
        attention, own = layer.attention, layer.attention.self
        self._num_heads = int(own.num_attention_heads)
        self._qkv = FrozenLinear([own.query, own.key, own.value])
        self._mix = FrozenLinear([attention.output.dense])
        self._widen = FrozenLinear([layer.intermediate.dense])
        self._narrow = FrozenLinear([layer.output.dense])
        self._mix_norm = _Norm(attention.output.LayerNorm)
        self._out_norm = _Norm(layer.output.LayerNorm)
        self._qkv_paths = [f"{path}.attention.self.{name}" for name in ("query", "key", "value")]
        self._mix_path = f"{path}.attention.output.dense"
        self._widen_path = f"{path}.intermediate.dense"
        self._narrow_path = f"{path}.output.dense"

    def __call__(self, x: Tensor, layout: Layout) -> Tensor:
        x = self._mix_norm(self._attention(x, layout).add_(x))
        wide = self._widen(x)
        layout.adapt(self._widen_path, x, wide)
        wide = functional.gelu(wide)
        narrow = self._narrow(wide)
        layout.adapt(self._narrow_path, wide, narrow)
        return self._out_norm(narrow.add_(x))

    def _attention(self, x: Tensor, layout: Layout) -> Tensor:
        qkv = self._qkv(x)
        for path, part in zip(self._qkv_paths, qkv.chunk(3, dim=-1), strict=True):
            layout.adapt(path, x, part)
        context = layout.attend(qkv, self._num_heads)
        out = self._mix(context)
        layout.adapt(self._mix_path, context, out)
        return out


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
