"""The ONNX Runtime engine: the same artifacts, the same scores, the same promises."""

import subprocess
import sys

import numpy as np
import pytest

from scoring.config import EngineConfig
from scoring.engines.onnx import OnnxEngine
from scoring.engines.torch import kernels
from scoring.errors import EngineUnavailableError
from scoring.types import Requests
from tests.unit.test_engine import TEXTS, World, assert_oracle, logits_of, mixed


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("world"))


def onnx_engine(world, **config):
    engine = OnnxEngine(world.backbone, world.store, EngineConfig(**config))
    for key in world.keys.values():
        engine.load(key)
    return engine


def test_it_gives_what_peft_gives(world):
    engine = onnx_engine(world, max_batch_tokens=128)
    assert engine.name.startswith("onnxruntime ")
    assert engine.name.endswith("cpu fp32 fused")
    assert_oracle(world, engine)


@pytest.mark.parametrize("family", ["roberta", "mpnet"])
def test_other_families(tmp_path, family):
    world = World(tmp_path, family)
    assert_oracle(world, onnx_engine(world, max_batch_tokens=128))


def test_a_family_without_a_graph_is_told(tmp_path):
    world = World(tmp_path, "distilbert")
    with pytest.raises(EngineUnavailableError, match="distilbert has no graph; set the engine to torch"):
        OnnxEngine(world.backbone, world.store, EngineConfig())


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_an_answers_logits_are_the_same_in_any_company(world, precision):
    if precision == "int8" and not kernels.int8_works():
        pytest.skip("this processor has no exact int8 product")
    engine = onnx_engine(world, precision=precision, max_batch_tokens=128)
    _, requests = mixed(world)
    logits = logits_of(engine, requests)
    rng = np.random.default_rng(1)
    for size in (1, 3, 17):
        order = rng.permutation(len(requests))
        for start in range(0, len(order), size):
            part = order[start : start + size]
            subset = Requests([requests.scorers[i] for i in part], [requests.texts[i] for i in part])
            np.testing.assert_allclose(logits_of(engine, subset), logits[part], atol=2e-6, rtol=0)


@pytest.mark.skipif(not kernels.int8_works(), reason="this processor has no exact int8 product")
def test_in_int8_both_engines_round_alike(world):
    engine, other = onnx_engine(world, precision="int8"), world.engine(precision="int8")
    assert all(" int8 " in engine.label(key) for key in engine.loaded())
    _, requests = mixed(world)
    mine, theirs, exact = (logits_of(one, requests) for one in (engine, other, world.engine()))
    # Where the engines' last bits differ a rounding may fall the other way: far less than int8 itself costs.
    assert np.abs(mine - theirs).mean() < 0.1 * np.abs(theirs - exact).mean()


def test_an_adapter_on_another_layer_makes_a_new_session(world):
    engine = OnnxEngine(world.backbone, world.store, EngineConfig())
    for name in ("bare", "narrow", "first"):
        engine.load(world.keys[name])
        expected = world.oracle(name, TEXTS[2:6])
        logits = logits_of(engine, Requests([world.keys[name]] * 4, list(TEXTS[2:6])))
        np.testing.assert_allclose(logits[:, : expected.shape[1]], expected, atol=1e-4, rtol=0)
    for name in ("narrow", "first"):
        engine.unload(world.keys[name])
    logits = logits_of(engine, Requests([world.keys["bare"]] * 4, list(TEXTS[2:6])))
    np.testing.assert_allclose(logits[:, :3], world.oracle("bare", TEXTS[2:6]), atol=1e-4, rtol=0)


def test_a_provider_that_is_not_there_is_told_instead_of_replaced(world):
    engine = OnnxEngine(world.backbone, world.store, EngineConfig(), device="cuda")
    with pytest.raises(EngineUnavailableError, match="no CUDAExecutionProvider here"):
        engine.load(world.keys["bare"])


def test_it_can_be_imported_before_everything_else():
    subprocess.run([sys.executable, "-c", "import scoring.engines.onnx"], check=True)
