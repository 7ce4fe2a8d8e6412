"""The three methods on a tiny random encoder: what each moves, stores and leaves alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from scoring.artifacts import ArtifactStore
from scoring.backbone import Backbone
from scoring.config import EngineConfig, LoraShape, TrainingConfig, recipe
from scoring.engines.torch import TorchEngine
from scoring.errors import CorruptArtifactError, InvalidInputError
from scoring.training.baselines import FullNetwork, HeadNetwork
from scoring.training.finetuning import measure_baseline, train_item
from scoring.training.fitted import fit_item
from scoring.training.fitting import Course
from scoring.training.storing import stored_report
from scoring.types import ItemId, ItemSpec, LabelledAnswer, Requests, Trait
from tests.unit.tiny_encoders import WORDS, write_encoder

ITEM = ItemSpec(ItemId("ice"), "Why does ice melt?", "en", (Trait("score", 3),))
QUICK = TrainingConfig(
    max_epochs=4, min_steps=0, max_tokens=32, num_adapted_layers=1, lora=LoraShape(rank=2, alpha=4.0)
)
TEXTS = ["ice melts", "the sun warms the ice because light moves energy", "no", ""]


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return Backbone.load(write_encoder(tmp_path_factory.mktemp("encoder")))


def made_up(num_answers):
    """Answers whose level is how often "heat" occurs."""
    rng = np.random.default_rng(0)
    others = [word for word in WORDS if word != "heat"]
    answers = []
    for number in range(num_answers):
        level = int(rng.integers(3))
        words = [*rng.choice(others, size=int(rng.integers(2, 7))), *["heat"] * level]
        rng.shuffle(words)
        answers.append(LabelledAnswer(f"r{number}", " ".join(words), {"score": level}))
    return answers


def weights_of(backbone):
    return {name: tensor.clone() for name, tensor in backbone.model.state_dict().items()}


def test_full_training_moves_every_weight_of_a_copy(backbone):
    before = weights_of(backbone)
    config = replace(QUICK, method="full", encoder_lr=1e-3)
    fitted = fit_item(ITEM, made_up(120), backbone=backbone, config=config)
    after = backbone.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    moved = dict(fitted.network._encoder.named_parameters())
    assert moved.keys() == dict(backbone.model.named_parameters()).keys()
    # Positions beyond the longest answer have no gradient, but weight decay.
    assert all(not torch.equal(before[name], weight) for name, weight in moved.items())


def test_full_training_learns_more_than_a_head_alone(backbone):
    answers = made_up(300)
    losses = {}
    for method in ("full", "head"):
        config = replace(recipe(method), max_epochs=12, min_steps=0, max_tokens=32, encoder_lr=1e-3)
        epochs = fit_item(ITEM, answers, backbone=backbone, config=config).epochs
        losses[method] = min(epoch.validation_loss for epoch in epochs)
    assert losses["full"] < losses["head"] - 0.1


@pytest.mark.parametrize("network_class", [FullNetwork, HeadNetwork])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_before_training_all_networks_see_the_bare_encoder(backbone, network_class, pooling):
    network = network_class(backbone, 3, config=replace(QUICK, pooling=pooling))
    token_ids = backbone.encode(TEXTS, 32)
    for ids, logits in zip(token_ids, network.predict(network.inputs(token_ids)), strict=True):
        states = backbone.model(input_ids=torch.tensor([ids])).last_hidden_state[0]
        feature = states[0] if pooling == "cls" else states.mean(0)
        assert np.allclose(network.head(feature).detach().numpy(), logits, atol=1e-5)


def test_a_head_alone_never_runs_the_encoder_again(backbone, monkeypatch):
    network = HeadNetwork(backbone, 3, config=QUICK)
    inputs = network.inputs(backbone.encode(TEXTS, 32))
    monkeypatch.setattr(backbone.model, "forward", None)
    assert network.predict(inputs).shape == (4, 3)
    assert network.train().training
    assert not backbone.model.training


def test_a_head_alone_is_stored_on_the_bare_backbone_and_served(backbone, tmp_path):
    store = ArtifactStore(tmp_path)
    config = replace(QUICK, method="head")
    report = train_item(ITEM, made_up(80), backbone=backbone, store=store, config=config)
    other = replace(ITEM, item_id=ItemId("snow"))
    second = train_item(other, made_up(90), backbone=backbone, store=store, config=config)
    assert store.read_extractor(report.extractor_key).tensors == {}
    assert report.extractor_key == second.extractor_key
    engine = TorchEngine(backbone, store, EngineConfig())
    engine.load(report.scorer_key)  # replays its golden rows
    assert len(engine.score(Requests([report.scorer_key] * 2, ["heat heat", "ice"]))) == 2


def test_a_whole_encoder_is_measured_but_never_stored(backbone, tmp_path):
    config = replace(QUICK, method="full")
    with pytest.raises(InvalidInputError, match=r"item 'ice'.*baseline and is not stored"):
        train_item(ITEM, made_up(80), backbone=backbone, store=ArtifactStore(tmp_path), config=config)
    assert list(tmp_path.iterdir()) == []
    report = measure_baseline(ITEM, made_up(80), backbone=backbone, config=config)
    encoder = sum(tensor.nbytes for tensor in backbone.model.parameters())
    assert report.num_bytes == encoder + 4 * (3 * backbone.hidden_size + 3)
    assert report.metrics[0].num_answers == report.num_test > 0


def test_a_stored_report_tells_what_training_told(backbone, tmp_path):
    store = ArtifactStore(tmp_path)
    report = train_item(ITEM, made_up(80), backbone=backbone, store=store, config=QUICK)
    assert stored_report(store, report.scorer_key) == replace(report, seconds=0.0)
    next((tmp_path / "extractors").rglob("*.safetensors")).unlink()
    with pytest.raises(CorruptArtifactError, match="is missing"):
        stored_report(store, report.scorer_key)


@pytest.mark.parametrize(
    ("num_answers", "course"),
    [
        (830, Course(num_batches=52, max_epochs=6, patience=2)),
        (240, Course(num_batches=15, max_epochs=20, patience=7)),
        (20, Course(num_batches=2, max_epochs=150, patience=50)),
    ],
)
def test_few_answers_are_passed_over_more_often(num_answers, course):
    config = TrainingConfig(max_epochs=6, patience=2, min_steps=300, batch_size=16)
    assert Course.of(num_answers, config) == course
    assert Course.of(num_answers, config.limited(3)).max_epochs == 3
    assert Course.of(num_answers, replace(config, patience=None)) == replace(course, patience=None)
