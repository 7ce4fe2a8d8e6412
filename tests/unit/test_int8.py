"""int8 on the CPU: close to fp32, the same in any company, and only for scorers shown to bear it."""

import logging
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from scoring.config import EngineConfig
from scoring.engines import findings
from scoring.engines.torch import TorchEngine, admission, encoders, engine, kernels, smoothing
from scoring.engines.torch.anatomy import layer_paths
from scoring.engines.torch.linear import DenseLinear, InputRange, Int8Linear, PackedLinear
from scoring.engines.torch.smoothing import GELU_FLOOR
from scoring.types import Requests
from tests.unit.test_engine import TEXTS, World, logits_of, mixed
from tests.unit.tiny_encoders import make_scorer, write_scorer

pytestmark = pytest.mark.skipif(not kernels.int8_works(), reason="this processor has no exact int8 product")

ADMITTING = findings.Int8Finding(findings.SCHEME, 100, 0.99, -0.004, 0.2)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("world"))


@pytest.fixture(autouse=True)
def _int8_is_at_hand(monkeypatch):
    # Whether it pays is measured, and a busy machine must not decide these tests.
    monkeypatch.setattr(engine, "int8_pays", lambda: True)


def layers_and_rows(num_rows=40, width=64):
    generator = torch.Generator().manual_seed(3)
    layers = [nn.Linear(width, out).requires_grad_(False) for out in (48, 16)]
    for layer in layers:
        layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator) * 0.1)
        layer.bias.copy_(torch.randn(layer.bias.shape, generator=generator))
    x = torch.randn(num_rows, width, generator=generator)
    x[:, 5] *= 30  # a channel that swings far, as encoders have them
    return layers, x


def centred_on_nothing(swing):
    return InputRange(swing, torch.zeros_like(swing))


def above(floor, x):
    return InputRange(x.abs().amax(0), torch.full(x.shape[1:], floor), is_floor=True)


def test_int8_is_close_to_fp32_row_by_row():
    layers, x = layers_and_rows()
    exact = DenseLinear(layers)(x)
    int8 = Int8Linear(layers, centred_on_nothing(x.abs().amax(0)))
    error = (int8(x) - exact).norm(dim=1) / exact.norm(dim=1)
    assert 1e-4 < error.max() < 0.02


def test_smoothing_takes_most_of_a_far_channels_error():
    layers, x = layers_and_rows()
    exact = DenseLinear(layers)(x)
    smooth, plain = (
        (Int8Linear(layers, centred_on_nothing(swing))(x) - exact).norm()
        for swing in (x.abs().amax(0), torch.cat([layer.weight for layer in layers]).abs().amax(0))
    )
    assert smooth < 0.6 * plain


def test_the_middle_of_channels_costs_no_steps():
    layers, x = layers_and_rows()
    x[:, 5] += 200  # and one that stands far off, as encoders have them too
    exact = DenseLinear(layers)(x)
    centred, plain = (
        (Int8Linear(layers, lies)(x) - exact).norm()
        for lies in (InputRange(x.std(0), x.mean(0)), centred_on_nothing(x.abs().amax(0)))
    )
    assert centred < 0.6 * plain


def test_a_floor_takes_error_from_what_leaves_gelu():
    layers, x = layers_and_rows()
    x = functional.gelu(x)
    exact = DenseLinear(layers)(x)
    lifted, plain = (
        (Int8Linear(layers, lies)(x) - exact).norm()
        for lies in (above(GELU_FLOOR, x), centred_on_nothing(x.abs().amax(0)))
    )
    assert lifted < 0.8 * plain


def test_nothing_that_leaves_gelu_falls_below_its_floor():
    least = functional.gelu(torch.linspace(-6, 6, 1_000_001)).min()
    assert GELU_FLOOR <= least < GELU_FLOOR + 1e-3


def test_only_inputs_that_left_gelu_have_a_floor(world):
    ranges = smoothing.input_ranges(world.backbone)
    floored = {site for site, one in ranges.items() if one.is_floor}
    assert floored == {paths.narrow for paths in layer_paths(world.backbone)}


@pytest.mark.parametrize("kind", ["int8", "int8 about a middle", "int8 with a floor", "packed"])
def test_a_row_is_the_same_bit_for_bit_in_any_company(kind):
    layers, x = layers_and_rows()
    linear = {
        "int8": lambda: Int8Linear(layers, centred_on_nothing(x.abs().amax(0))),
        "int8 about a middle": lambda: Int8Linear(layers, InputRange(x.std(0), x.mean(0))),
        "int8 with a floor": lambda: Int8Linear(layers, above(float(x.min()), x)),
        "packed": lambda: PackedLinear(layers),
    }[kind]()
    whole = linear(x)
    for start, end in ((0, 1), (3, 4), (5, 12), (7, 40), (39, 40)):
        assert torch.equal(linear(x[start:end].clone()), whole[start:end])


def test_a_row_of_zeros_gives_the_bias():
    layers, x = layers_and_rows()
    out = Int8Linear(layers, centred_on_nothing(x.abs().amax(0)))(torch.zeros(2, 64))
    torch.testing.assert_close(out, torch.cat([layer.bias for layer in layers]).expand(2, -1))


def test_a_kernel_that_saturates_is_refused(monkeypatch):
    class Saturating(Int8Linear):
        def __call__(self, x):
            return super().__call__(x).clamp(-300, 300)

    monkeypatch.setattr(kernels, "Int8Linear", Saturating)
    assert not kernels._is_exact()


def test_a_missing_kernel_is_not_chosen(monkeypatch):
    class Missing:
        def __init__(self, *_):
            raise AttributeError("no such operator")

    monkeypatch.setattr(kernels, "Int8Linear", Missing)
    monkeypatch.setattr(kernels, "PackedLinear", Missing)
    assert kernels.fp32_kernel.__wrapped__() is DenseLinear
    assert kernels.int8_works.__wrapped__() is False


def test_int8_that_takes_longer_does_not_pay(monkeypatch):
    monkeypatch.setattr(kernels, "_seconds", lambda *_: [1.0, 1.1])
    assert kernels.int8_pays.__wrapped__() is False
    monkeypatch.setattr(kernels, "_seconds", lambda *_: [1.0, 1.3])
    assert kernels.int8_pays.__wrapped__() is True


def test_an_int8_engine_stays_near_the_oracle(world):
    engine = world.engine(precision="int8", max_batch_tokens=128)
    assert all(" int8 " in engine.label(key) for key in engine.loaded())
    _, requests = mixed(world)
    logits, plain = logits_of(engine, requests), logits_of(world.engine(), requests)
    assert 0 < np.abs(logits - plain).max() < 0.5
    assert np.abs(logits - plain).mean() < 0.05


@settings(deadline=None, max_examples=20)
@given(st.data())
def test_in_int8_an_answers_logits_do_not_depend_on_its_company(world, data):
    engine = data.draw(st.just(int8_engine(world)))
    _, requests = mixed(world)
    logits = logits_of(engine, requests)
    order = data.draw(st.permutations(range(len(requests))))
    size = data.draw(st.integers(1, len(order)))
    for start in range(0, len(order), size):
        part = order[start : start + size]
        subset = Requests([requests.scorers[i] for i in part], [requests.texts[i] for i in part])
        # A quantised activation that fell on its other side would move them by a thousandth or more.
        np.testing.assert_allclose(logits_of(engine, subset), logits[part], atol=1e-5, rtol=0)


_engines = {}


def int8_engine(world):
    if world not in _engines:
        _engines[world] = world.engine(precision="int8", max_batch_tokens=128)
    return _engines[world]


def with_finding(world, name, finding):
    artifact = make_scorer(world.store, world.backbone, world.extractors["all"], name=name)
    return world.store.write_scorer(replace(artifact, lineage={"int8": finding and asdict(finding)}))


@pytest.mark.parametrize(
    ("finding", "precision"),
    [
        (ADMITTING, "int8"),
        (None, "fp32"),
        (replace(ADMITTING, agreement=0.979), "fp32"),
        (replace(ADMITTING, qwk_change=-0.006), "fp32"),
        (replace(ADMITTING, num_answers=0), "fp32"),
        (replace(ADMITTING, scheme="another"), "fp32"),
    ],
)
def test_only_what_was_shown_to_bear_it_is_scored_in_int8(world, finding, precision):
    key = with_finding(world, "shown", finding)
    engine = TorchEngine(world.backbone, world.store, EngineConfig(precision="auto"))
    engine.load(key)
    assert f" {precision} " in engine.label(key)


def test_a_finding_of_another_version_admits_nobody(world):
    artifact = make_scorer(world.store, world.backbone, world.extractors["all"], name="old")
    assert not findings.is_admitted(replace(artifact, lineage={"int8": {"scheme": findings.SCHEME}}))


def test_fp32_stays_fp32_where_the_settings_say_so(world):
    key = with_finding(world, "shown", ADMITTING)
    engine = TorchEngine(world.backbone, world.store, EngineConfig(precision="fp32"))
    engine.load(key)
    assert " fp32 " in engine.label(key)


def test_precisions_mix_in_one_call_and_each_keeps_its_own(world):
    admitted, plain = with_finding(world, "shown", ADMITTING), with_finding(world, "shown", None)
    texts = list(TEXTS[:10])
    engine = TorchEngine(world.backbone, world.store, EngineConfig(precision="auto"))
    for key in (admitted, plain):
        engine.load(key)
    both = logits_of(engine, Requests([admitted, plain] * 10, [text for text in texts for _ in range(2)]))
    in_int8 = logits_of(int8_engine_of(world, plain), Requests([plain] * 10, texts))
    # The same engine kept to fp32: another lies elsewhere in memory, which moves the last bits of a product.
    token_ids = engine.prepare(Requests([plain] * 10, texts)).token_ids
    in_fp32 = engine._logits([engine._roster[plain]] * 10, token_ids, in_fp32=True)
    np.testing.assert_allclose(both[::2], in_int8, atol=2e-6, rtol=0)
    np.testing.assert_allclose(both[1::2], in_fp32, atol=1e-5)
    assert np.abs(both[::2] - both[1::2]).max() > 1e-4


def int8_engine_of(world, key):
    engine = TorchEngine(world.backbone, world.store, EngineConfig(precision="int8"))
    engine.load(key)
    return engine


def fp32_engine_of(world, key):
    engine = TorchEngine(world.backbone, world.store, EngineConfig())
    engine.load(key)
    return engine


def test_golden_rows_that_int8_misses_send_the_scorer_to_fp32(world, caplog):
    key = with_finding(world, "shown", ADMITTING)
    config = EngineConfig(precision="auto", golden_tolerance_int8=1e-6)
    engine = TorchEngine(world.backbone, world.store, config)
    with caplog.at_level(logging.WARNING):
        engine.load(key)
    assert " fp32 " in engine.label(key)
    told = [record.action for record in caplog.records if record.name.startswith("scoring")]
    assert told == ["int8_refused"]
    scores = engine.score(Requests([key] * 3, list(TEXTS[1:4])))
    expected = fp32_engine_of(world, key).score(Requests([key] * 3, list(TEXTS[1:4])))
    np.testing.assert_allclose(scores.confidence, expected.confidence, atol=1e-6)


def test_a_finding_says_what_the_engine_does(world):
    artifact = make_scorer(world.store, world.backbone, world.extractors["all"], name="tried", levels=(3, 4))
    key = write_scorer(world.store, world.backbone, world.extractors["all"], name="tried", levels=(3, 4))
    human = np.array([[n % 3, n % 4] for n in range(len(TEXTS))])
    told = admission.try_int8(
        artifact,
        world.store.read_extractor(artifact.extractor),
        backbone=world.backbone,
        token_ids=world.backbone.encode(TEXTS, 32),
        levels=human,
    )
    requests = Requests([key] * len(TEXTS), list(TEXTS))
    int8, fp32 = int8_engine_of(world, key), fp32_engine_of(world, key)
    equal = int8.score(requests).level == fp32.score(requests).level
    assert told["agreement"] == min(equal[::2].mean(), equal[1::2].mean())
    changes = np.abs(logits_of(int8, requests) - logits_of(fp32, requests))
    assert told["max_change"] == pytest.approx(float(changes.max()), abs=1e-4)
    assert told["num_answers"] == len(TEXTS)
    assert -1 <= told["qwk_change"] <= 1


def test_where_int8_cannot_run_there_is_no_finding(world, monkeypatch):
    artifact = make_scorer(world.store, world.backbone, world.extractors["all"], name="tried")
    extractor = world.store.read_extractor(artifact.extractor)
    tried = {"backbone": world.backbone, "levels": np.zeros((1, 1), dtype=int)}
    assert admission.try_int8(artifact, extractor, token_ids=[], **tried) is None
    monkeypatch.setattr(encoders, "int8_works", lambda: False)
    assert admission.try_int8(artifact, extractor, token_ids=[[2, 3]], **tried) is None
