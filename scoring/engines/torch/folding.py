"""One extractor folded into the encoder's weights, for a worker that serves only that one.

W + (alpha / rank) B A in place of both: what a fixed set-up saves is the adapter's share of the time. Knows
no scorers; the backbone itself stays as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from scoring.errors import IncompatibleArtifactError
from scoring.types import ExtractorKey

if TYPE_CHECKING:
    from scoring.artifacts import ArtifactStore
    from scoring.backbone import Backbone


def folded_layers(backbone: Backbone, store: ArtifactStore, key: str) -> dict[str, nn.Linear]:
    """Copies of the linear layers that an extractor adapts, with its update added, by path.

    Raises:
        CorruptArtifactError: the extractor is missing or damaged.
        IncompatibleArtifactError: it was made for another backbone, or adapts a layer that is not there.
        StoreUnavailableError: the store does not answer.
    """
    extractor = store.read_extractor(ExtractorKey(key))
    if extractor.backbone_revision != backbone.revision:
        raise IncompatibleArtifactError(f"extractor {key[:12]}: made for backbone {extractor.backbone}")
    scale = extractor.lora.alpha / extractor.lora.rank
    folded = {}
    for path, (a, b) in extractor.modules().items():
        try:
            layer = backbone.model.get_submodule(path)
        except AttributeError as error:
            raise IncompatibleArtifactError(f"adapter: the backbone has no linear layer {path}") from error
        if not isinstance(layer, nn.Linear) or layer.weight.shape != (b.shape[0], a.shape[1]):
            raise IncompatibleArtifactError(f"adapter: {path} does not fit the backbone's layer")
        copy = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None)
        copy.requires_grad_(requires_grad=False).to(layer.weight.device)
        copy.weight.copy_(layer.weight + scale * (b @ a).to(layer.weight.device))
        if layer.bias is not None:
            copy.bias.copy_(layer.bias)
        folded[path] = copy
    return folded
