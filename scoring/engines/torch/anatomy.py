"""Where the families that share the fast forward keep their parts: names of submodules, and nothing else.

BERT, RoBERTa, XLM-R, CamemBERT and MPNet are post-layer-norm encoders with learned positions and exact GELU;
they differ in names and in what is added to attention.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scoring.bank import Site

if TYPE_CHECKING:
    from torch import nn

    from scoring.backbone import Backbone

_FAMILIES = frozenset({"bert", "roberta", "xlm-roberta", "camembert", "mpnet"})


@dataclass(frozen=True, slots=True)
class LayerPaths:
    """Paths of one transformer layer's parts in the encoder, as PEFT names its weights."""

    qkv: tuple[str, str, str]
    mix: str
    mix_norm: str
    widen: str
    narrow: str
    out_norm: str

    @property
    def sites(self) -> tuple[tuple[str, ...], ...]:
        """Linear layers that run as one, in the order of the forward; the first one's path names the site."""
        return self.qkv, (self.mix,), (self.widen,), (self.narrow,)


def is_bert_like(backbone: Backbone) -> bool:
    """Whether the fast forward computes what the encoder's own would."""
    config = backbone.config
    return (
        backbone.family in _FAMILIES
        and getattr(config, "hidden_act", None) == "gelu"
        and getattr(config, "position_embedding_type", "absolute") in {None, "absolute"}
        and not getattr(config, "is_decoder", False)
    )


def layer_paths(backbone: Backbone) -> list[LayerPaths]:
    """The paths of every layer, from the first."""
    return [_paths(f"encoder.layer.{index}", backbone.family) for index in range(backbone.num_layers)]


def sites_of(model: nn.Module, groups: list[tuple[str, ...]]) -> dict[str, Site]:
    """Sites of the bank: each group of linear layers by the path of its first one."""
    sites = {}
    for paths in groups:
        layers: dict[str, Any] = {path: model.get_submodule(path) for path in paths}
        widths = {path: int(layer.out_features) for path, layer in layers.items()}
        sites[paths[0]] = Site(int(layers[paths[0]].in_features), widths)
    return sites


def _paths(layer: str, family: str) -> LayerPaths:
    attention = f"{layer}.attention"
    if family == "mpnet":
        own, mix, mix_norm = f"{attention}.attn", f"{attention}.attn.o", f"{attention}.LayerNorm"
        q, k, v = (f"{own}.{name}" for name in ("q", "k", "v"))
    else:
        own, mix = f"{attention}.self", f"{attention}.output.dense"
        mix_norm = f"{attention}.output.LayerNorm"
        q, k, v = (f"{own}.{name}" for name in ("query", "key", "value"))
    return LayerPaths(
        qkv=(q, k, v),
        mix=mix,
        mix_norm=mix_norm,
        widen=f"{layer}.intermediate.dense",
        narrow=f"{layer}.output.dense",
        out_norm=f"{layer}.output.LayerNorm",
    )
