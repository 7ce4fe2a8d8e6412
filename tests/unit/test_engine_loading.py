from dataclasses import replace

import numpy as np
import pytest
import torch

from scoring.artifacts import ArtifactStore
from scoring.backbone import Backbone
from scoring.config import EngineConfig
from scoring.engines.torch import TorchEngine
from scoring.errors import CorruptArtifactError, GoldenMismatchError, IncompatibleArtifactError
from scoring.types import Requests, ScorerKey
from tests.unit.tiny_encoders import make_scorer, write_adapter, write_encoder, write_scorer

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

TEXTS = ["the ice melts", "no", "the sun warms the water"]


class World:
    def __init__(self, folder):
        write_encoder(folder / "encoder")
        self.backbone = Backbone.load(str(folder / "encoder"))
        self.store = ArtifactStore(folder / "store")
        self.extractors = [write_adapter(self.store, self.backbone, seed=seed) for seed in (1, 2)]
        self.keys = [
            write_scorer(self.store, self.backbone, extractor, name=f"item{index}")
            for index, extractor in enumerate(self.extractors)
        ]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("world"))


@pytest.fixture
def engine(world):
    engine = TorchEngine(world.backbone, world.store, EngineConfig())
    engine.load(world.keys[0])
    return engine


def refused(world, engine, key, error, match):
    """Loading `key` is refused and leaves what was there as it was."""
    before = engine.score(Requests([world.keys[0]] * 3, TEXTS)).probabilities
    with pytest.raises(error, match=match):
        engine.load(key)
    assert list(engine.loaded()) == [world.keys[0]]
    assert engine.score(Requests([world.keys[0]] * 3, TEXTS)).probabilities == before
    engine.load(world.keys[1])
    assert engine._roster[world.keys[1]].reading.slot == 2
    assert engine._roster[world.keys[1]].head_slot == 2


def test_golden_rows_that_do_not_come_out_refuse_the_scorer(world, engine):
    artifact = make_scorer(world.store, world.backbone, world.extractors[1], name="item1")
    golden = artifact.golden_logits.clone()
    golden[1, 2] += 3e-3
    key = world.store.write_scorer(replace(artifact, golden_logits=golden))
    refused(world, engine, key, GoldenMismatchError, "item1: a golden row's logit is off by 0.003")


def test_golden_rows_within_the_tolerance_pass(world, engine):
    artifact = make_scorer(world.store, world.backbone, world.extractors[1], name="item1")
    key = world.store.write_scorer(replace(artifact, golden_logits=artifact.golden_logits + 1e-3))
    engine.load(key)
    assert key in engine.loaded()


def test_a_wrong_adapter_does_not_pass_the_golden_rows(world, engine):
    artifact = make_scorer(world.store, world.backbone, world.extractors[1], name="item1")
    key = world.store.write_scorer(replace(artifact, extractor=world.extractors[0]))
    refused(world, engine, key, GoldenMismatchError, "off by")


def test_golden_rows_are_replayed_in_mixed_company(world, engine):
    seen = []
    features = engine._encoder.features

    class Watching:
        def features(self, rows):
            seen.append(set(rows.slots.tolist()))
            return features(rows)

    engine._encoder = Watching()
    engine.load(world.keys[1])
    assert {1, 2} in seen


def test_an_engine_that_mixes_adapters_up_lets_nobody_in(world, engine):
    features = engine._encoder.features

    class Mixing:
        def features(self, rows):
            return features(replace(rows, slots=np.where(rows.slots == 2, 1, rows.slots)))

    engine._encoder = Mixing()
    with pytest.raises(GoldenMismatchError):
        engine.load(world.keys[1])


def test_not_a_number_is_a_mismatch(world, engine):
    class Broken:
        def features(self, rows):
            return torch.full((len(rows), 32), float("nan"))

    engine._encoder = Broken()
    with pytest.raises(GoldenMismatchError):
        engine.load(world.keys[1])


def test_another_backbones_scorer_is_refused(world, engine, tmp_path):
    write_encoder(tmp_path, seed=9)
    other = Backbone.load(str(tmp_path))
    extractor = write_adapter(world.store, other, seed=1)
    key = write_scorer(world.store, other, extractor, name="other")
    refused(world, engine, key, IncompatibleArtifactError, "made for backbone")


def test_a_scorer_that_reads_the_prompt_is_refused_rather_than_misread(world, engine):
    artifact = make_scorer(world.store, world.backbone, world.extractors[1], name="item1")
    key = world.store.write_scorer(replace(artifact, use_prompt=True))
    refused(world, engine, key, IncompatibleArtifactError, "prompt")


def test_a_scorer_that_is_not_there_is_refused(world, engine):
    refused(world, engine, ScorerKey("e" * 64), CorruptArtifactError, "missing")


def test_a_head_of_another_width_is_refused(world, engine):
    artifact = make_scorer(world.store, world.backbone, world.extractors[1], name="item1")
    key = world.store.write_scorer(replace(artifact, head_weight=torch.zeros(3, 31)))
    refused(world, engine, key, IncompatibleArtifactError, "width 31")


def test_an_adapter_for_a_layer_that_is_not_there_is_refused(world, engine):
    extractor = world.store.read_extractor(world.extractors[1])
    deeper = {name.replace("layer.1.", "layer.7."): tensor for name, tensor in extractor.tensors.items()}
    artifact = make_scorer(world.store, world.backbone, world.extractors[1], name="item1")
    strange = world.store.write_extractor(replace(extractor, tensors=deeper))
    key = world.store.write_scorer(replace(artifact, extractor=strange))
    refused(world, engine, key, IncompatibleArtifactError, r"no linear layer encoder\.layer\.7")


def test_loading_twice_is_free_and_slots_are_used_again(world, engine):
    engine.load(world.keys[0])
    assert len(list(engine.loaded())) == 1
    engine.unload(world.keys[0])
    engine.load(world.keys[1])
    assert engine._roster[world.keys[1]].reading.slot == 1
    assert engine._roster[world.keys[1]].head_slot == 1
