"""Whole encoders of items' own: trained once, merged by their differences, measured, and opened elsewhere."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel

from scoring.backbone import Backbone
from scoring.config import TrainingConfig
from scoring.errors import CorruptArtifactError, InvalidInputError
from scoring.merging.whole import WholeEncoders
from scoring.types import ItemId, ItemSpec, LabelledAnswer, Trait
from tests.schoolhouse import answer
from tests.unit.tiny_encoders import write_encoder

if TYPE_CHECKING:
    from pathlib import Path

    from scoring.merging.whole import WholeModel

CONFIG = TrainingConfig(
    method="full", max_epochs=12, min_steps=0, encoder_lr=5e-3, head_lr=1e-2, head_dropout=0.0
)


def item_of(name: str) -> ItemSpec:
    return ItemSpec(ItemId(name), "Why?", "en", (Trait("quality", 3),))


def answers_of(seed: int, *, num_answers: int = 120) -> list[LabelledAnswer]:
    rng = np.random.default_rng(seed)
    found = []
    for number in range(num_answers):
        level = int(rng.integers(3))
        fold = "train" if number % 4 < 2 else "validation" if number % 4 == 2 else "test"
        text = f"{answer(level, rng)} {number}"
        found.append(LabelledAnswer(f"r{number}", text, {"quality": level}, fold=fold))
    return found


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> WholeEncoders:
    folder = tmp_path_factory.mktemp("whole")
    return WholeEncoders(Backbone.load(write_encoder(folder / "encoder")), folder / "kept", CONFIG)


@pytest.fixture(scope="module")
def models(encoders: WholeEncoders) -> list[WholeModel]:
    return [encoders.own(item_of(f"item{seed}"), answers_of(seed)) for seed in (1, 2)]


def test_an_encoder_is_trained_once(encoders: WholeEncoders, models: list[WholeModel]) -> None:
    epochs: list[object] = []
    assert encoders.is_kept(models[0].item, answers_of(1))
    again = encoders.own(models[0].item, answers_of(1), progress=epochs.append)
    assert epochs == []
    assert all(torch.equal(again.weights[name], weight) for name, weight in models[0].weights.items())
    assert again.decisions == models[0].decisions
    assert not encoders.is_kept(models[0].item, answers_of(3))


def test_own_encoders_differ_and_have_learned(encoders: WholeEncoders, models: list[WholeModel]) -> None:
    assert any(not torch.equal(one, models[1].weights[name]) for name, one in models[0].weights.items())
    pair = encoders.merge(models).pairs[0]
    assert (pair.before == pair.human).mean() > 0.6


def test_copies_merge_into_themselves(encoders: WholeEncoders, models: list[WholeModel]) -> None:
    merged = encoders.merge([models[0], models[0]], refits_heads=False)
    for name, weight in models[0].weights.items():
        assert torch.allclose(merged.weights[name], weight, atol=1e-6)
    assert all((pair.before == pair.after).all() for pair in merged.pairs)


def test_the_mean_lies_between_and_ties_does_not(encoders: WholeEncoders, models: list[WholeModel]) -> None:
    one, other = (model.weights for model in models)
    mean = encoders.merge(models).weights
    assert all(torch.allclose(mean[name], (one[name] + other[name]) / 2, atol=1e-6) for name in one)
    ties = encoders.merge(models, way="ties").weights
    assert any(not torch.allclose(ties[name], mean[name], atol=1e-4) for name in one)


def test_fitted_heads_do_not_lose_to_those_kept(encoders: WholeEncoders, models: list[WholeModel]) -> None:
    shares = {}
    for refits_heads in (False, True):
        pairs = encoders.merge(models, refits_heads=refits_heads).pairs
        shares[refits_heads] = np.mean([(pair.after == pair.human).mean() for pair in pairs])
    assert shares[True] >= shares[False]
    assert shares[True] > 0.5


def test_a_merged_encoder_opens_with_transformers_alone(
    encoders: WholeEncoders, models: list[WholeModel], tmp_path: Path
) -> None:
    merged = encoders.merge(models)
    encoders.write(merged, models, tmp_path)
    opened = AutoModel.from_pretrained(tmp_path / "encoder")
    told = json.loads((tmp_path / "items.json").read_text())
    assert [one["item_id"] for one in told["items"]] == ["item1", "item2"]
    heads = load_file(tmp_path / "heads.safetensors")
    ids = models[1].data.test.token_ids[0]
    with torch.no_grad():
        feature = opened(input_ids=torch.tensor([ids])).last_hidden_state.mean(1)
    logits = feature @ heads["1.weight"].t() + heads["1.bias"]
    ours = merged.heads[1].logits(encoders.features(merged.weights, models[1].data.test))[0]
    assert logits[0].numpy() == pytest.approx(ours, abs=1e-4)


def test_a_damaged_encoder_is_named(encoders: WholeEncoders) -> None:
    item, answers = item_of("damaged"), answers_of(4, num_answers=40)
    encoders.own(item, answers)
    path = encoders.path(item, answers)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorruptArtifactError, match=rf"{path.name}.*delete it"):
        encoders.own(item, answers)
    path.unlink()
    encoders.own(item, answers)


def test_what_cannot_be_merged_is_refused(
    encoders: WholeEncoders, models: list[WholeModel], tmp_path: Path
) -> None:
    with pytest.raises(InvalidInputError, match="at least two"):
        encoders.merge(models[:1])
    backbone = Backbone.load(write_encoder(tmp_path / "encoder"))
    with pytest.raises(InvalidInputError, match="'full'"):
        WholeEncoders(backbone, tmp_path, TrainingConfig())
