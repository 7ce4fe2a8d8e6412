"""The training loop: one item's network, its answers in, its last or its best state kept.

Knows no item by name, no store and no metric but the loss.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from scoring.training.batches import shuffled_batches
from scoring.training.rates import ramp

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from scoring.config import TrainingConfig
    from scoring.training.examples import Examples
    from scoring.training.network import Inputs, ItemNetwork


@dataclass(frozen=True, slots=True)
class Epoch:
    """One pass over the train fold: mean cross-entropy per answer, in nats, summed over traits."""

    number: int
    max_epochs: int
    train_loss: float
    validation_loss: float


@dataclass(frozen=True, slots=True)
class Course:
    """How long a network may train on so many answers.

    Attributes:
        num_batches: steps in an epoch
        max_epochs: as configured, or as many as `min_steps` takes
        patience: epochs without improvement that end it, stretched as `max_epochs` is; None: nothing does
    """

    num_batches: int
    max_epochs: int
    patience: int | None

    @classmethod
    def of(cls, num_answers: int, config: TrainingConfig) -> Course:
        """The course for a train fold of this size."""
        num_batches = math.ceil(num_answers / config.batch_size)
        max_epochs = max(config.max_epochs, math.ceil(config.min_steps / num_batches))
        patience = config.patience and round(config.patience * max_epochs / config.max_epochs)
        return cls(num_batches, max_epochs, patience)

    @property
    def num_steps(self) -> int:
        """Steps from the first to the last epoch, if nothing ends it early."""
        return self.num_batches * self.max_epochs


def fit(
    network: ItemNetwork,
    *,
    train: Examples,
    validation: Examples,
    num_levels: Sequence[int],
    config: TrainingConfig,
    progress: Callable[[Epoch], None],
) -> list[Epoch]:
    """Train whatever the network's method moves; the network is left in the state that is kept.

    The loss is the cross-entropy of each trait's softmax, summed over traits, plus
    `frobenius_penalty * (||A||_F^2 + ||B||_F^2)` (Latif and Zhai, 2025), plus `ordinal_weight` times the
    squared distance of the expected level from the human one. AdamW with a rate for the body and one for the
    head, linear warm-up and decay, gradients clipped to `max_grad_norm`. With `patience` set, training stops
    once the validation cross-entropy has not improved for so many epochs (see `Course` for items of few
    answers), and the best state is kept; without, it runs to the end, where the rate is nought.

    Args:
        network: freshly initialised.
        train: the answers to learn from.
        validation: the answers that decide when to stop, if anything does.
        num_levels: width of each trait's softmax group [num_traits]
        config: rates, sizes and the seed of the batches' order.
        progress: called after every epoch.

    Returns:
        the epochs that were run
    """
    rng = np.random.default_rng(config.seed)
    course = Course.of(len(train), config)
    inputs, validation_inputs = network.inputs(train.token_ids), network.inputs(validation.token_ids)
    descent = _Descent(
        network, inputs=inputs, levels=train.levels, num_levels=num_levels, course=course, config=config
    )
    epochs: list[Epoch] = []
    state = network.trained_state()
    for number in range(1, course.max_epochs + 1):
        train_loss = descent.epoch(shuffled_batches(inputs.lengths(), config.batch_size, rng=rng))
        validation_loss = mean_loss(network.predict(validation_inputs), validation.levels, num_levels)
        epochs.append(Epoch(number, course.max_epochs, train_loss, validation_loss))
        progress(epochs[-1])
        kept = kept_epoch(epochs, patience=course.patience)
        if kept == number:
            state = network.trained_state()
        elif course.patience is not None and number - kept >= course.patience:
            break
    network.restore(state)
    return epochs


def kept_epoch(epochs: Sequence[Epoch], *, patience: int | None) -> int:
    """Number of the (first) epoch with the least validation loss; without patience, of the last one."""
    if patience is None:
        return epochs[-1].number
    return min(epochs, key=lambda epoch: (epoch.validation_loss, epoch.number)).number


def mean_loss(logits: NDArray[np.float32], levels: NDArray[np.int64], num_levels: Sequence[int]) -> float:
    """Cross-entropy per answer, in nats, summed over traits."""
    return float(_loss(torch.from_numpy(logits), torch.from_numpy(levels), num_levels))


class _Descent:
    """Network, answers, optimizer and schedule, which advance together."""

    def __init__(
        self,
        network: ItemNetwork,
        *,
        inputs: Inputs,
        levels: NDArray[np.int64],
        num_levels: Sequence[int],
        course: Course,
        config: TrainingConfig,
    ) -> None:
        self._network = network
        self._device = network.head.weight.device
        self._inputs = inputs
        self._levels = levels
        self._num_levels = num_levels
        self._config = config
        self._penalised, self._trained = network.penalised_parameters(), network.trained_parameters()
        self._optimizer = _optimizer(network, config)
        self._scheduler = _scheduler(self._optimizer, course.num_steps, config)

    def epoch(self, batches: Sequence[NDArray[np.int64]]) -> float:
        """One step a batch; mean cross-entropy per answer, before each step."""
        self._network.train()
        return sum(self._step(batch) * len(batch) for batch in batches) / len(self._levels)

    def _step(self, batch: NDArray[np.int64]) -> float:
        # Half precision pays on a GPU only; losses and what the optimizer keeps stay in fp32.
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._device.type == "cuda"):
            logits = self._network(self._inputs, batch).float()
        levels = torch.from_numpy(self._levels[batch]).to(logits.device)
        loss = _loss(logits, levels, self._num_levels)
        distance = squared_distance(logits, levels, self._num_levels)
        penalty = sum((weight.square().sum() for weight in self._penalised), start=torch.zeros_like(loss))
        objective = loss + self._config.ordinal_weight * distance + self._config.frobenius_penalty * penalty
        self._optimizer.zero_grad()
        objective.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._trained, self._config.max_grad_norm)
        self._optimizer.step()
        self._scheduler.step()
        return loss.item()


def _loss(logits: Tensor, levels: Tensor, num_levels: Sequence[int]) -> Tensor:
    groups = torch.split(logits, list(num_levels), dim=1)
    return torch.stack([cross_entropy(group, levels[:, trait]) for trait, group in enumerate(groups)]).sum()


def squared_distance(logits: Tensor, levels: Tensor, num_levels: Sequence[int]) -> Tensor:
    """Mean of `(sum_k k p_k - level)^2`, summed over traits: what a quadratic weighted kappa punishes."""
    groups = torch.split(logits, list(num_levels), dim=1)
    distances = []
    for trait, group in enumerate(groups):
        steps = torch.arange(group.shape[1], dtype=group.dtype, device=group.device)
        distances.append((group.softmax(dim=1) @ steps - levels[:, trait]).square().mean())
    return torch.stack(distances).sum()


def _optimizer(network: ItemNetwork, config: TrainingConfig) -> torch.optim.AdamW:
    body_lr = config.encoder_lr if config.method == "full" else config.adapter_lr
    groups = [
        {"params": network.body_parameters(), "lr": body_lr},
        {"params": list(network.head.parameters()), "lr": config.head_lr},
    ]
    moved = [group for group in groups if group["params"]]
    return torch.optim.AdamW(moved, weight_decay=config.weight_decay, fused=True)


def _scheduler(
    optimizer: torch.optim.Optimizer, num_steps: int, config: TrainingConfig
) -> torch.optim.lr_scheduler.LambdaLR:
    return torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: ramp(step, num_steps, warmup_share=config.warmup_share)
    )
