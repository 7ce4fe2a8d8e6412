"""The training loop: the best state comes back, the schedule ends where it should."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from scoring.backbone import Backbone
from scoring.config import LoraShape, TrainingConfig
from scoring.training.adapted import AdaptedNetwork
from scoring.training.examples import Examples
from scoring.training.fitting import fit, kept_epoch, mean_loss, squared_distance
from tests.unit.tiny_encoders import WORDS, write_encoder

CONFIG = TrainingConfig(
    max_epochs=8, patience=3, min_steps=0, lora=LoraShape(rank=2, alpha=4.0), num_adapted_layers=1
)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return Backbone.load(write_encoder(tmp_path_factory.mktemp("encoder")))


def examples(backbone, num_answers, *, seed):
    """Random words, and random levels of a trait with two and one with three levels."""
    rng = np.random.default_rng(seed)
    texts = [" ".join(rng.choice(WORDS, size=rng.integers(1, 9))) for _ in range(num_answers)]
    levels = np.column_stack([rng.integers(2, size=num_answers), rng.integers(3, size=num_answers)])
    return Examples(backbone.encode(texts, 32), levels)


def run(backbone, config):
    torch.manual_seed(0)
    network = AdaptedNetwork(backbone, 5, config=config)
    train, validation = examples(backbone, 60, seed=1), examples(backbone, 30, seed=2)
    epochs = fit(
        network, train=train, validation=validation, num_levels=[2, 3], config=config, progress=lambda _: None
    )
    return network, validation, epochs


def test_the_network_comes_back_in_its_best_state(backbone):
    # Levels drawn at random cannot be learned: with high rates the validation loss soon rises.
    network, validation, epochs = run(backbone, replace(CONFIG, adapter_lr=0.05, head_lr=0.1))
    losses = [epoch.validation_loss for epoch in epochs]
    now = mean_loss(network.predict(network.inputs(validation.token_ids)), validation.levels, [2, 3])
    assert len(epochs) == kept_epoch(epochs, patience=3) + 3 < 8
    assert losses[-1] > min(losses)
    assert now == pytest.approx(min(losses), rel=1e-5)


def test_without_patience_all_epochs_are_run_and_the_last_state_is_kept(backbone):
    network, validation, epochs = run(backbone, replace(CONFIG, patience=None, adapter_lr=0.05, head_lr=0.1))
    losses = [epoch.validation_loss for epoch in epochs]
    now = mean_loss(network.predict(network.inputs(validation.token_ids)), validation.levels, [2, 3])
    assert len(epochs) == kept_epoch(epochs, patience=None) == 8
    assert losses[-1] > min(losses)
    assert now == pytest.approx(losses[-1], rel=1e-5)


def test_the_loss_is_summed_over_traits():
    logits = np.zeros((4, 5), dtype=np.float32)
    levels = np.array([[0, 2], [1, 0], [1, 1], [0, 0]])
    assert mean_loss(logits, levels, [2, 3]) == pytest.approx(math.log(2) + math.log(3))
    logits[:, 0] = 1.0
    certain = math.log(1 + math.exp(-1.0))
    assert mean_loss(logits[:1], levels[:1], [2, 3]) == pytest.approx(certain + math.log(3))


def test_the_penalty_shrinks_the_adapter(backbone):
    norms = []
    for penalty in (0.0, 10.0):
        config = replace(CONFIG, frobenius_penalty=penalty, adapter_lr=1e-2, max_epochs=1, batch_size=2)
        network, _, _ = run(backbone, config)
        norms.append(sum(weight.detach().square().sum().item() for weight in network.body_parameters()))
    assert norms[1] < 0.5 * norms[0]


@pytest.mark.parametrize(("adapter_lr", "head_lr", "moved"), [(0.0, 1e-2, "head"), (1e-2, 0.0, "adapter")])
def test_adapter_and_head_have_rates_of_their_own(backbone, adapter_lr, head_lr, moved):
    config = replace(CONFIG, adapter_lr=adapter_lr, head_lr=head_lr, weight_decay=0.0, max_epochs=1)
    torch.manual_seed(0)
    fresh = AdaptedNetwork(backbone, 5, config=config)
    network, _, _ = run(backbone, config)
    pairs = zip(fresh.body_parameters(), network.body_parameters(), strict=True)
    assert any(not torch.equal(before, after) for before, after in pairs) == (moved == "adapter")
    assert (not torch.equal(fresh.head.weight, network.head.weight)) == (moved == "head")


def test_no_step_is_longer_than_the_clip_allows(backbone):
    """With gradients clipped to nothing, only weight decay could move a weight, and it is off."""
    config = replace(CONFIG, max_grad_norm=0.0, weight_decay=0.0)
    torch.manual_seed(0)
    fresh = AdaptedNetwork(backbone, 5, config=config)
    network, _, _ = run(backbone, config)
    for before, after in zip(fresh.trained_parameters(), network.trained_parameters(), strict=True):
        assert torch.equal(before, after)


def test_the_squared_distance_is_that_of_the_expected_level():
    # Uniform over three levels expects 1.0; uniform over two expects 0.5.
    logits, levels = torch.zeros(2, 5), torch.tensor([[0, 2], [1, 1]])
    assert float(squared_distance(logits, levels, [2, 3])) == pytest.approx(0.25 + (1.0 + 0.0) / 2)
    certain = torch.tensor([[-50.0, 50.0, 50.0, -50.0, -50.0]])
    assert float(squared_distance(certain, torch.tensor([[0, 2]]), [2, 3])) == pytest.approx(1 + 4)


def test_the_ordinal_weight_draws_expected_levels_nearer(backbone):
    """A little, for what is best for the one is best for the other in the end."""
    distances = {}
    for weight in (0.0, 20.0):
        config = replace(CONFIG, ordinal_weight=weight, max_epochs=6, adapter_lr=5e-3, head_lr=1e-2)
        torch.manual_seed(0)
        network = AdaptedNetwork(backbone, 5, config=config)
        train = examples(backbone, 60, seed=1)
        fit(
            network,
            train=train,
            validation=train,
            num_levels=[2, 3],
            config=config,
            progress=lambda _: None,
        )
        logits = torch.from_numpy(network.predict(network.inputs(train.token_ids)))
        distances[weight] = float(squared_distance(logits, torch.from_numpy(train.levels), [2, 3]))
    assert distances[20.0] < distances[0.0]
