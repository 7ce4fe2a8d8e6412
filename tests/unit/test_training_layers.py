"""An encoder cut in two gives what the whole one gives."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from scoring.backbone import Backbone
from scoring.config import LoraShape, TrainingConfig
from scoring.errors import InvalidInputError
from scoring.training.adapted import AdaptedNetwork
from scoring.training.batches import padded, shuffled_batches, sorted_batches
from scoring.training.layers import LowerLayers, UpperLayers
from tests.unit.tiny_encoders import write_encoder

TEXTS = ["ice melts", "the sun warms the ice because light moves energy", "no", "", "a circuit is open"]
CONFIG = TrainingConfig(lora=LoraShape(rank=2, alpha=4.0, dropout=0.0), head_dropout=0.0, max_tokens=32)


@pytest.fixture(scope="module", params=["bert", "roberta", "distilbert"])
def backbone(request, tmp_path_factory):
    return Backbone.load(write_encoder(tmp_path_factory.mktemp(request.param), family=request.param))


@pytest.mark.parametrize("num_lower", [0, 1])
def test_lower_then_upper_layers_are_the_whole_encoder(backbone, num_lower):
    token_ids = backbone.encode(TEXTS, 32)
    states = LowerLayers(backbone, num_lower).states(token_ids)
    upper = UpperLayers(backbone, num_lower)
    for ids, entering in zip(token_ids, states, strict=True):
        row, mask = padded([ids], pad_id=backbone.pad_id)
        whole = backbone.model(input_ids=row, attention_mask=mask).last_hidden_state
        assert torch.allclose(upper(row, mask, entering[None]), whole, atol=1e-5)


def test_stored_states_depend_neither_on_padding_nor_on_order(backbone):
    token_ids = backbone.encode(TEXTS, 32)
    lower = LowerLayers(backbone, 1)
    together = lower.states(token_ids)
    for ids, entering in zip(token_ids, together, strict=True):
        (alone,) = lower.states([ids])
        assert entering.shape == (len(ids), backbone.hidden_size)
        assert torch.allclose(entering, alone, atol=1e-5)


def test_only_adapter_and_head_are_trained(tmp_path):
    backbone = Backbone.load(write_encoder(tmp_path))
    network = AdaptedNetwork(backbone, 3, config=replace(CONFIG, num_adapted_layers=1))
    shared = {tensor.data_ptr() for tensor in backbone.model.state_dict().values()}
    trained = network.trained_parameters()
    assert {id(p) for p in network.parameters() if p.requires_grad} == {id(p) for p in trained}
    assert not shared & {p.data_ptr() for p in trained}
    frozen = [p for p in network.parameters() if not p.requires_grad]
    assert {p.data_ptr() for p in frozen} <= shared


def test_a_fresh_adapter_changes_nothing(tmp_path):
    """PEFT starts with B = 0: the network is the bare encoder and a head."""
    backbone = Backbone.load(write_encoder(tmp_path))
    network = AdaptedNetwork(backbone, 3, config=CONFIG)
    token_ids = backbone.encode(TEXTS, 32)
    for ids, logits in zip(token_ids, network.predict(network.inputs(token_ids)), strict=True):
        states = backbone.model(input_ids=torch.tensor([ids])).last_hidden_state[0]
        assert np.allclose(network.head(states.mean(0)).detach().numpy(), logits, atol=1e-5)


def test_cls_pooling_takes_the_first_token(tmp_path):
    backbone = Backbone.load(write_encoder(tmp_path))
    network = AdaptedNetwork(backbone, 3, config=replace(CONFIG, pooling="cls"))
    token_ids = backbone.encode(TEXTS, 32)
    for ids, logits in zip(token_ids, network.predict(network.inputs(token_ids)), strict=True):
        first = backbone.model(input_ids=torch.tensor([ids])).last_hidden_state[0, 0]
        assert np.allclose(network.head(first).detach().numpy(), logits, atol=1e-5)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (replace(CONFIG, num_adapted_layers=0), "at least 1"),
        (replace(CONFIG, lora=LoraShape(target_modules=("nonsense",))), "nonsense are not in this encoder"),
    ],
)
def test_shapes_that_fit_no_encoder_are_refused(tmp_path, config, message):
    backbone = Backbone.load(write_encoder(tmp_path))
    with pytest.raises(InvalidInputError, match=message):
        AdaptedNetwork(backbone, 3, config=config)


def test_batches_hold_every_answer_once_and_are_of_about_equal_length():
    lengths = np.random.default_rng(0).integers(3, 40, size=101)
    for batches in (sorted_batches(lengths, 16), shuffled_batches(lengths, 16, rng=np.random.default_rng(1))):
        assert sorted(np.concatenate(batches)) == list(range(101))
        num_padded = sum(lengths[batch].max() * len(batch) for batch in batches)
        assert num_padded < 1.15 * lengths.sum()
    first, second = (shuffled_batches(lengths, 16, rng=np.random.default_rng(seed)) for seed in (1, 2))
    assert {tuple(sorted(batch)) for batch in first} != {tuple(sorted(batch)) for batch in second}
