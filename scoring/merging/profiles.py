"""What the criteria beside GW look at, made of an item's artifacts and answers.

Pupils and clouds come in, profiles go out; which criterion is asked is not known here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from scoring.merging.criteria import ItemProfile
from scoring.merging.joint import cross_entropy_of
from scoring.merging.refit import HeadData, fit_head

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from scoring.merging.clouds import FeatureCloud
    from scoring.merging.extraction import SharedReader
    from scoring.merging.updates import Updates
    from scoring.training.network import Inputs

#: Penalty of the linear heads whose losses' gradients are compared; they need be no more than sensible.
_PENALTY = 1e-2


def profile(
    cloud: FeatureCloud,
    updates: Updates,
    *,
    reader: SharedReader,
    probe: Inputs,
    prompt: str,
    gradient: NDArray[np.float32] | None = None,
) -> ItemProfile:
    """An item's profile for all criteria.

    Args:
        cloud: its own answers through its own extractor.
        updates: its own extractor.
        reader: reads answers.
        probe: answers that are the same for every item.
        prompt: the item's prompt; without one the criterion "prompt" sees an empty text.
        gradient: see `adapter_gradient`.
    """
    adapter = {
        module: (update.a.float().numpy(), update.b.float().numpy()) for module, update in updates.items()
    }
    return ItemProfile(
        cloud=cloud,
        probe=reader.features(probe, updates),
        adapter=adapter,
        gradient=gradient,
        prompt=reader.features(reader.read([prompt]), {})[0],
    )


def probe_texts(texts: Mapping[str, Sequence[str]], *, num_texts: int, seed: int) -> list[str]:
    """About so many texts from all items alike, the same ones in any process."""
    each = max(1, num_texts // max(1, len(texts)))
    rng = np.random.default_rng(seed)
    return [
        texts[name][place]
        for name in sorted(texts)
        for place in sorted(rng.permutation(len(texts[name]))[:each].tolist())
    ]


def adapter_gradient(
    inputs: Inputs,
    targets: NDArray[np.float64],
    num_levels: Sequence[int],
    *,
    modules: Sequence[str],
    reader: SharedReader,
) -> NDArray[np.float32]:
    """The loss's gradient at the bare backbone with respect to the last adapted layer's weights.

    Every item is asked at the same point, under a linear head of its own that fits its answers there: two
    items whose gradients point the same way want the same adapter (of 28 measures the most consistent
    predictor of mergeability in arXiv 2601.22285).

    Args:
        inputs: an item's answers as far as the lower layers bring them.
        targets: [num_answers, num_logits]
        num_levels: of each trait [num_traits]
        modules: adapted linear layers; those of the highest layer are taken.
        reader: reads answers.
    """
    head = fit_head(HeadData(reader.features(inputs, {}), targets), num_levels=num_levels, penalty=_PENALTY)
    weight, bias = (torch.from_numpy(part).float() for part in (head.weight, head.bias))
    wanted = torch.from_numpy(targets).float()

    def loss(features: Tensor, batch: NDArray[np.int64]) -> Tensor:
        logits = features @ weight.to(features.device).t() + bias.to(features.device)
        mine = wanted[torch.from_numpy(batch)].to(features.device)
        return cross_entropy_of(logits, mine, num_levels) / len(targets)

    found = reader.weight_gradients(inputs, _top_layer(modules), loss)
    return torch.cat([found[module].flatten() for module in sorted(found)]).cpu().numpy()


def _top_layer(modules: Sequence[str]) -> list[str]:
    def number(module: str) -> int:
        return max((int(part) for part in module.split(".") if part.isdigit()), default=0)

    highest = max(map(number, modules))
    return [module for module in modules if number(module) == highest]
