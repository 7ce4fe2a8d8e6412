"""Recipes as people change them: every part by its name, nothing else."""

import json
from dataclasses import asdict

import pytest

from scoring.config import LoraShape, TrainingConfig, recipe
from scoring.errors import InvalidInputError
from workers.recipes import changed, recorded


def test_parts_are_changed_by_name_and_become_what_they_should_be():
    told = [
        "adapter_lr=1e-3",
        "lora.rank = 16",
        "lora.target_modules=query,value",
        "pooling=cls",
        "min_steps=0",
    ]
    lora = LoraShape(rank=16, target_modules=("query", "value"))
    wanted = TrainingConfig(adapter_lr=1e-3, lora=lora, pooling="cls", min_steps=0)
    assert changed(TrainingConfig(), told) == wanted
    assert changed(recipe("full"), ["num_adapted_layers=2"]).num_adapted_layers == 2
    assert changed(changed(TrainingConfig(), ["num_adapted_layers=2"]), ["num_adapted_layers=none"]) == (
        TrainingConfig()
    )
    assert changed(recipe("head"), []) == recipe("head")


@pytest.mark.parametrize("name", sorted(set(asdict(TrainingConfig())) - {"lora"}))
def test_every_part_can_be_set_to_what_it_is(name):
    config = recipe("full")
    value = getattr(config, name)
    assert changed(config, [f"{name}={'none' if value is None else value}"]) == config


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("adapter_lr", r"write name=value, with one of the names method, lora\.rank"),
        ("rank=4", "write name=value"),
        ("lora=4", "write name=value"),
        ("lora.rank.x=4", "write name=value"),
        ("seed.x=4", "write name=value"),
        ("lora.rank=many", "--set lora.rank=many: .*integer"),
        ("pooling=max", "--set pooling=max: .*'mean' or 'cls'"),
        ("adapter_lr=-1", r"--set adapter_lr=-1\.0: has to be at least 0"),
        ("adapter_lr=nan", "has to be at least 0"),
        ("lora.rank=0", r"--set lora\.rank=0: has to be at least 1"),
        ("batch_size=0", "has to be at least 1"),
        ("review_risk=0", r"--set review_risk=0\.0: has to lie between 0 and 1"),
        ("review_risk=1", "has to lie between 0 and 1"),
        ("review_certainty=5", "has to lie between 0 and 1"),
        ("lora.dropout=1.5", r"--set lora\.dropout=1\.5: has to be below 1"),
        ("warmup_share=3", "has to be below 1"),
    ],
)
def test_what_is_no_part_or_no_value_is_refused(change, told):
    with pytest.raises(InvalidInputError, match=told):
        changed(TrainingConfig(), [change])


def test_a_recipe_that_was_written_down_is_read_again():
    config = changed(TrainingConfig(), ["review_risk=0.01", "lora.target_modules=query,value", "pooling=cls"])
    told = json.loads(json.dumps(asdict(config)))
    assert recorded(told) == config
    # By another version: parts that it did not have are today's, and those that are no more are left.
    del told["patience"], told["lora"]["dropout"]
    told["momentum"] = 0.9
    assert recorded(told) == config


def test_a_limit_for_once_is_not_part_of_the_recipe():
    chosen = changed(TrainingConfig(), ["adapter_lr=1e-3"])
    told = asdict(chosen.limited(1)) | {"recipe": asdict(chosen)}
    assert recorded(told) == chosen != chosen.limited(1)


@pytest.mark.parametrize("told", [None, {}, {"method": "joint"}, {"lora": {"rank": "many"}}])
def test_what_tells_no_recipe_is_none(told):
    assert recorded(told) is None
