"""One adapter trained for a group of items at once: separate heads, the items' own models as teachers.

Each item's answers with their targets come in, the shared update and a head an item go out. Where targets
come from is not known here; nor is any store.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from scoring.config import TrainingConfig
from scoring.errors import InvalidInputError
from scoring.merging.extraction import joined, num_lower_layers
from scoring.merging.refit import Head
from scoring.merging.updates import Update
from scoring.training.adapted import AdaptedNetwork
from scoring.training.batches import shuffled_batches
from scoring.training.layers import layer_path

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from scoring.backbone import Backbone
    from scoring.config import Pooling
    from scoring.merging.updates import Updates
    from scoring.training.network import Inputs

    Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class JointConfig:
    """The recipe: it starts from a good place, so that it is shorter than an item's own training."""

    max_epochs: int = 3
    patience: int = 1
    batch_size: int = 32
    adapter_lr: float = 8e-4
    head_lr: float = 2e-3
    weight_decay: float = 0.01
    head_dropout: float = 0.1
    lora_dropout: float = 0.05
    frobenius_penalty: float = 1e-5
    warmup_share: float = 0.1
    max_grad_norm: float = 1.0
    seed: int = 20260101


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """One item's share in a joint training.

    Attributes:
        num_levels: of each trait [num_traits]
        head: where its head starts
        train: answers as far as the lower layers bring them
        train_targets: distributions over levels [num_train, num_logits]
        validation: answers that decide when to stop
        validation_targets: [num_validation, num_logits]
    """

    num_levels: tuple[int, ...]
    head: Head
    train: Inputs
    train_targets: Floats
    validation: Inputs
    validation_targets: Floats


@dataclass(frozen=True, slots=True, eq=False)
class JointFit:
    """The shared update in its best state, a head an item, and the mean validation loss of each epoch."""

    updates: Updates
    heads: tuple[Head, ...]
    validation_losses: tuple[float, ...]


def train_jointly(
    lessons: Sequence[Lesson],
    start: Updates,
    *,
    backbone: Backbone,
    pooling: Pooling = "mean",
    config: JointConfig | None = None,
    progress: Callable[[int, int], None] = lambda _epoch, _epochs: None,
) -> JointFit:
    """Train one shared adapter and all heads on all items' answers together.

    The loss of an answer is the cross-entropy of its own item's traits against their targets; every item
    weighs as its answers do. The state with the least validation loss, averaged over items, is kept; the
    start counts as one.

    Args:
        lessons: one an item.
        start: the update to start from, all layers at one rank.
        backbone: the shared encoder; left exactly as it is.
        pooling: how token states become one feature.
        config: rates and sizes.
        progress: told (epochs done, epochs at most); may raise to end the training.

    Raises:
        InvalidInputError: no answers, or layers of different ranks.
    """
    config = config or JointConfig()
    if not any(len(lesson.train.token_ids) for lesson in lessons):
        raise InvalidInputError("joint training needs answers; merge by least squares or by weights instead")
    devices = [backbone.device] if backbone.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(config.seed)
        width = sum(sum(lesson.num_levels) for lesson in lessons)
        network = _network(start, width, backbone=backbone, pooling=pooling, config=config)
        return _Classroom(lessons, start, network, config).taught(progress)


class _Classroom:
    """One network with all items' heads stacked, their answers, an optimizer and a schedule."""

    def __init__(
        self, lessons: Sequence[Lesson], start: Updates, network: AdaptedNetwork, config: JointConfig
    ) -> None:
        self._lessons = lessons
        self._config = config
        self._widths = [sum(lesson.num_levels) for lesson in lessons]
        self._num_levels = [width for lesson in lessons for width in lesson.num_levels]
        self._modules = list(start)
        self._network = network
        self._put(start)
        self._train = joined([lesson.train for lesson in lessons])
        targets = torch.block_diag(*(torch.from_numpy(one.train_targets) for one in lessons))  # type: ignore[no-untyped-call]
        self._targets: Tensor = targets.float()
        self._optimizer = self._make_optimizer()
        num_batches = math.ceil(len(self._train.token_ids) / config.batch_size)
        self._scheduler = self._make_scheduler(num_batches * config.max_epochs + 1)

    def taught(self, progress: Callable[[int, int], None]) -> JointFit:
        """Train to the end and give the best state."""
        config, rng = self._config, np.random.default_rng(self._config.seed)
        losses = [self._validation_loss()]
        best = self._network.trained_state()
        for number in range(1, config.max_epochs + 1):
            self._network.train()
            for batch in shuffled_batches(self._train.lengths(), config.batch_size, rng=rng):
                self._step(batch)
            losses.append(self._validation_loss())
            progress(number, config.max_epochs)
            if losses[-1] <= min(losses):
                best = self._network.trained_state()
            elif number - int(np.argmin(losses)) > config.patience:
                break
        self._network.restore(best)
        return JointFit(self._updates(), self._heads(), tuple(losses))

    def _step(self, batch: NDArray[np.int64]) -> None:
        logits = self._network(self._train, batch)
        targets = self._targets[torch.from_numpy(batch)].to(logits.device)
        loss = cross_entropy_of(logits, targets, self._num_levels) / len(batch)
        penalty = torch.stack([one.square().sum() for one in self._network.body_parameters()]).sum()
        self._optimizer.zero_grad()
        (loss + self._config.frobenius_penalty * penalty).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._network.trained_parameters(), self._config.max_grad_norm)
        self._optimizer.step()
        self._scheduler.step()

    def _validation_loss(self) -> float:
        """Mean over items of the mean cross-entropy of an answer."""
        losses = []
        for lesson, columns in zip(self._lessons, self._columns(), strict=True):
            if not len(lesson.validation.token_ids):
                continue
            logits = torch.from_numpy(self._network.predict(lesson.validation)[:, columns])
            targets = torch.from_numpy(lesson.validation_targets).float()
            losses.append(float(cross_entropy_of(logits, targets, lesson.num_levels)) / len(logits))
        return float(np.mean(losses)) if losses else 0.0

    def _columns(self) -> list[slice]:
        ends = np.cumsum(self._widths).tolist()
        return [slice(end - width, end) for end, width in zip(ends, self._widths, strict=True)]

    def _make_optimizer(self) -> torch.optim.AdamW:
        groups = [
            {"params": self._network.body_parameters(), "lr": self._config.adapter_lr},
            {"params": list(self._network.head.parameters()), "lr": self._config.head_lr},
        ]
        return torch.optim.AdamW(groups, weight_decay=self._config.weight_decay)

    def _make_scheduler(self, num_steps: int) -> torch.optim.lr_scheduler.OneCycleLR:
        warmup_share = self._config.warmup_share
        # It divides by the steps of its warm-up less one.
        if round(warmup_share * num_steps, 6) == 1:
            warmup_share = 2 / num_steps
        return torch.optim.lr_scheduler.OneCycleLR(
            self._optimizer,
            max_lr=[self._config.adapter_lr, self._config.head_lr],
            total_steps=num_steps,
            pct_start=warmup_share,
            anneal_strategy="linear",
            cycle_momentum=False,
        )

    def _put(self, start: Updates) -> None:
        """Load the starting update and heads, by the names under which the adapter would be stored."""
        tensors = []
        for name in self._network.adapter_tensors():
            module, _, side = name.removeprefix("base_model.model.").rpartition(".lora_")
            tensors.append(start[module].a if side.startswith("A") else start[module].b)
        weight = torch.from_numpy(np.vstack([lesson.head.weight for lesson in self._lessons]))
        bias = torch.from_numpy(np.concatenate([lesson.head.bias for lesson in self._lessons]))
        self._network.restore([*tensors, weight, bias])

    def _updates(self) -> Updates:
        tensors = {
            name.removeprefix("base_model.model."): tensor.double()
            for name, tensor in self._network.adapter_tensors().items()
        }
        return {
            module: Update(tensors[f"{module}.lora_B.weight"], tensors[f"{module}.lora_A.weight"])
            for module in self._modules
        }

    def _heads(self) -> tuple[Head, ...]:
        weight = self._network.head.weight.detach().cpu().double().numpy()
        bias = self._network.head.bias.detach().cpu().double().numpy()
        return tuple(Head(weight[columns].copy(), bias[columns].copy()) for columns in self._columns())


def _network(
    start: Updates, width: int, *, backbone: Backbone, pooling: Pooling, config: JointConfig
) -> AdaptedNetwork:
    """A network with an adapter on the layers that the start updates, at its rank and unscaled."""
    ranks = {update.rank for update in start.values()}
    if len(ranks) != 1:
        raise InvalidInputError(f"joint training starts from one rank for all layers, not {sorted(ranks)}")
    (rank,) = ranks
    num_lower = num_lower_layers(start, backbone)
    path = layer_path(backbone)
    endings = {module.removeprefix(f"{path}.").partition(".")[2] for module in start}
    if len(start) != len(endings) * (backbone.num_layers - num_lower):
        raise InvalidInputError("joint training needs the same adapted layers all the way up")
    recipe = TrainingConfig(
        num_adapted_layers=backbone.num_layers - num_lower,
        pooling=pooling,
        head_dropout=config.head_dropout,
    )
    lora = replace(
        recipe.lora,
        rank=rank,
        alpha=float(rank),
        target_modules=tuple(sorted(endings)),
        dropout=config.lora_dropout,
    )
    return AdaptedNetwork(backbone, width, config=replace(recipe, lora=lora))


def cross_entropy_of(logits: Tensor, targets: Tensor, num_levels: Sequence[int]) -> Tensor:
    """Sum over answers and traits; the targets of other items' traits are zero and count for nothing."""
    widths = list(num_levels)
    pairs = zip(torch.split(logits, widths, dim=1), torch.split(targets, widths, dim=1), strict=True)
    return -torch.stack([(wanted * part.log_softmax(1)).sum() for part, wanted in pairs]).sum()
