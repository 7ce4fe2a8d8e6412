"""Features by a folded update are those of plain peft, whatever the cut; the backbone stays as it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scoring.artifacts import ArtifactStore
from scoring.backbone import Backbone
from scoring.errors import IncompatibleArtifactError
from scoring.merging.extraction import SharedReader, joined, num_lower_layers, thinned
from scoring.merging.updates import Update, updates_of
from tests.unit.tiny_encoders import BERT_LINEARS, peft_features, write_adapter, write_encoder

TEXTS = ("the ice melts because the sun warms it", "no", "energy moves and plants need light", "yes")
LAST = "encoder.layer.1"


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return Backbone.load(write_encoder(tmp_path_factory.mktemp("encoder")))


@pytest.mark.parametrize("family", ["bert", "distilbert"])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_features_are_those_of_plain_peft(family, pooling, tmp_path) -> None:
    backbone = Backbone.load(write_encoder(tmp_path / "encoder", family=family))
    targets = BERT_LINEARS if family == "bert" else ("q_lin", "v_lin", "lin1")
    store = ArtifactStore(tmp_path / "store")
    key = write_adapter(store, backbone, seed=3, targets=targets, strength=1.0)
    updates = updates_of(store.read_extractor(key))
    reader = SharedReader(
        backbone, num_lower=num_lower_layers(updates, backbone), pooling=pooling, max_tokens=32
    )
    expected = peft_features(store, backbone, key, TEXTS, pooling, 32).numpy()
    assert reader.features(reader.read(TEXTS), updates) == pytest.approx(expected, abs=1e-4)


def test_what_lies_below_the_cut_runs_once_and_gives_the_same(backbone: Backbone) -> None:
    updates = {f"{LAST}.attention.self.query": small_update(backbone)}
    assert num_lower_layers(updates, backbone) == 1
    found = []
    for num_lower in (0, 1):
        reader = SharedReader(backbone, num_lower=num_lower, max_tokens=32)
        found.append(reader.features(reader.read(TEXTS), updates))
    assert found[0] == pytest.approx(found[1], abs=1e-5)


def test_the_backbone_is_as_before_even_after_an_error(backbone: Backbone) -> None:
    before = {name: weight.clone() for name, weight in backbone.model.state_dict().items()}
    reader = SharedReader(backbone, num_lower=0, max_tokens=32)
    inputs = reader.read(TEXTS)
    bare = reader.features(inputs, {})
    with pytest.raises(IncompatibleArtifactError, match="no linear layer"):
        reader.features(
            inputs,
            {f"{LAST}.attention.self.query": small_update(backbone), f"{LAST}.odd": small_update(backbone)},
        )
    assert np.array_equal(reader.features(inputs, {}), bare)
    assert all(torch.equal(weight, before[name]) for name, weight in backbone.model.state_dict().items())


def test_a_module_outside_the_layers_is_refused(backbone: Backbone) -> None:
    with pytest.raises(IncompatibleArtifactError, match=r"embeddings.*no layer"):
        num_lower_layers(["embeddings.word"], backbone)


def test_second_moments_are_those_of_what_enters_the_layer(backbone: Backbone) -> None:
    module = f"{LAST}.attention.self.query"
    updates = {module: small_update(backbone)}
    reader = SharedReader(backbone, num_lower=1, max_tokens=32)
    inputs = reader.read(TEXTS)
    found = reader.second_moments(inputs, updates)
    # What enters the first layer above the cut is what the lower layers gave.
    rows = torch.cat(inputs.states).double()
    assert torch.allclose(found[module], rows.t() @ rows / len(rows), atol=1e-5)


def test_gradients_are_slopes(backbone: Backbone) -> None:
    reader = SharedReader(backbone, num_lower=1, max_tokens=32)
    inputs, module = reader.read(TEXTS), f"{LAST}.output.dense"
    aim = torch.randn(len(TEXTS), backbone.hidden_size, generator=torch.Generator().manual_seed(0))

    def loss(features: torch.Tensor, batch: np.ndarray) -> torch.Tensor:
        return (features * aim[torch.from_numpy(batch)]).sum()

    grad = reader.weight_gradients(inputs, [module], loss)[module]
    step = torch.zeros_like(grad).double()
    step[3, 5] = 1e-2
    values = []
    for sign in (-1, 1):
        moved = {module: Update(sign * step, torch.eye(grad.shape[1], dtype=torch.double))}
        values.append(float((torch.from_numpy(reader.features(inputs, moved)) * aim).sum()))
    assert grad[3, 5].item() == pytest.approx((values[1] - values[0]) / 2e-2, rel=1e-2, abs=1e-3)


def test_answers_join_and_thin_evenly(backbone: Backbone) -> None:
    reader = SharedReader(backbone, num_lower=1, max_tokens=32)
    both = joined([reader.read(TEXTS[:1]), reader.read(TEXTS[1:])])
    assert both.token_ids == reader.read(TEXTS).token_ids
    few = thinned(both, 2)
    assert few.token_ids == [both.token_ids[0], both.token_ids[-1]]
    assert thinned(both, 10) is both


def small_update(backbone: Backbone) -> Update:
    generator = torch.Generator().manual_seed(5)
    size = backbone.hidden_size
    return Update(
        torch.randn(size, 2, generator=generator, dtype=torch.double) / 10,
        torch.randn(2, size, generator=generator, dtype=torch.double),
    )
