"""A bank smaller than its extractors, and an extractor that is part of the encoder's weights."""

import logging

import numpy as np
import pytest

from scoring.config import EngineConfig
from scoring.engines.roster import ABSENT
from scoring.engines.torch import TorchEngine
from scoring.errors import IncompatibleArtifactError
from scoring.types import Requests
from tests.unit.test_engine import TEXTS, World, assert_oracle, logits_of
from tests.unit.tiny_encoders import write_adapter, write_scorer

NUM_ADAPTERS = 6


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Six scorers, each with an extractor of its own and of the same size."""
    made = World(tmp_path_factory.mktemp("world"))
    made.alike = [
        write_scorer(
            made.store, made.backbone, write_adapter(made.store, made.backbone, seed=20 + n), name=f"like{n}"
        )
        for n in range(NUM_ADAPTERS)
    ]
    return made


def engine_of(world, *, num_slots):
    """An engine whose bank has room for so many extractors; slot 0 takes its place too."""
    probe = TorchEngine(world.backbone, world.store, EngineConfig())
    probe.load(world.alike[0])
    pairs = world.store.read_extractor(world.store.read_scorer(world.alike[0]).extractor).modules()
    limit = probe._adapters.bytes_of(pairs) * (num_slots + 1)
    engine = TorchEngine(world.backbone, world.store, EngineConfig(max_bank_bytes=limit))
    for key in world.alike:
        engine.load(key)
    return engine


def requests_of(world, order):
    return Requests([world.alike[n] for n in order], [TEXTS[n + 3] for n in order])


def test_a_small_bank_gives_what_a_large_one_gives(world):
    small, large = engine_of(world, num_slots=2), engine_of(world, num_slots=50)
    for order in ([0, 1, 2, 3, 4, 5, 0, 3], [5, 5, 1], [2], [4, 3, 2, 1, 0]):
        mine, theirs = (engine.score(requests_of(world, order)) for engine in (small, large))
        assert mine.level.tolist() == theirs.level.tolist()
        np.testing.assert_allclose(mine.confidence, theirs.confidence, atol=1e-5)
    assert large.bank().num_evicted == 0
    assert large.bank().num_brought == large.bank().num_resident == NUM_ADAPTERS


def test_a_bank_stays_within_its_limit(world):
    engine = engine_of(world, num_slots=3)
    for order in ([0, 1, 2, 3, 4, 5], [1, 5, 3], [0, 2, 4, 1]):
        engine.score(requests_of(world, order))
        assert engine.bank().num_resident == 3
        assert engine.bank().num_bytes <= engine._adapters.max_bytes


def test_each_extractor_is_brought_in_at_most_once_a_call(world):
    engine = engine_of(world, num_slots=2)
    before = engine.bank().num_brought
    engine.score(requests_of(world, [0, 1, 2, 3, 4, 5] * 3))
    # Two of the six stood there already.
    assert engine.bank().num_brought - before == NUM_ADAPTERS - 2


def test_the_least_recently_used_goes(world):
    engine = engine_of(world, num_slots=3)  # 3, 4 and 5 were loaded last
    engine.score(requests_of(world, [3]))
    engine.score(requests_of(world, [0]))
    before = engine.bank().num_brought
    engine.score(requests_of(world, [0, 3, 5]))
    assert engine.bank().num_brought == before
    engine.score(requests_of(world, [4]))
    assert engine.bank().num_brought == before + 1


def test_what_a_call_asks_for_does_not_leave_in_it(world):
    engine = engine_of(world, num_slots=3)
    extractors = [world.store.read_scorer(key).extractor for key in world.alike]
    resident = [3, 4, 5]  # the least recently used first
    # Often enough that the order in which a set gives its members does not matter.
    for _ in range(12):
        newcomer = next(n for n in range(NUM_ADAPTERS) if n not in resident)
        before = engine.bank().num_brought
        engine.score(requests_of(world, [newcomer, resident[0]]))
        assert engine.bank().num_brought == before + 1
        resident = [extractors.index(extractor) for extractor in engine._roster.residency._slots]
        absent = [n for n in range(NUM_ADAPTERS) if engine._roster[world.alike[n]].reading.slot == ABSENT]
        assert sorted(absent + resident) == list(range(NUM_ADAPTERS))


def test_a_working_set_larger_than_the_bank_is_told_once(world, caplog):
    engine = engine_of(world, num_slots=2)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            engine.score(requests_of(world, range(NUM_ADAPTERS)))
        engine.score(requests_of(world, [0, 1]))
    told = [record for record in caplog.records if getattr(record, "action", "") == "bank_too_small"]
    assert len(told) == 1
    assert "one call wants 6 extractors" in told[0].getMessage()


def test_one_extractor_is_served_however_small_the_bank(world):
    engine = TorchEngine(world.backbone, world.store, EngineConfig(max_bank_bytes=1))
    engine.load(world.alike[0])
    engine.load(world.alike[1])
    large = engine_of(world, num_slots=50)
    order = [0, 1, 0, 1]
    mine, theirs = (one.score(requests_of(world, order)) for one in (engine, large))
    np.testing.assert_allclose(mine.confidence, theirs.confidence, atol=1e-5)
    assert engine.bank().num_resident == 1


def test_what_leaves_the_bank_and_then_the_engine_is_gone(world):
    engine = engine_of(world, num_slots=2)
    for key in world.alike[:4]:
        engine.unload(key)
    assert list(engine.loaded()) == world.alike[4:]
    engine.load(world.alike[0])
    assert engine.score(requests_of(world, [0, 4, 5])).level.shape == (3,)


def test_a_merged_extractor_gives_the_same_scores(world, tmp_path):
    extractor = world.extractors["all"]
    engine = TorchEngine(world.backbone, world.store, EngineConfig(merged_extractor=extractor))
    assert engine.name.endswith("+merged")
    for name in ("first", "short"):
        engine.load(world.keys[name])
        expected = world.oracle(name, TEXTS[:8])
        logits = logits_of(engine, Requests([world.keys[name]] * 8, list(TEXTS[:8])))
        np.testing.assert_allclose(logits[:, : expected.shape[1]], expected, atol=1e-4, rtol=0)
    assert engine.bank().num_bytes == 0


def test_a_merged_engine_refuses_every_other_extractor_and_leaves_the_backbone_alone(world):
    merged = TorchEngine(world.backbone, world.store, EngineConfig(merged_extractor=world.extractors["all"]))
    with pytest.raises(IncompatibleArtifactError, match="alone, which is part of its weights"):
        merged.load(world.keys["narrow"])
    assert list(merged.loaded()) == []
    assert_oracle(world, world.engine())


def test_waves_cover_every_answer_of_a_mixed_call_once(world):
    engine = engine_of(world, num_slots=2)
    waves = list(engine._roster.waves([world.alike[n % NUM_ADAPTERS] for n in range(20)]))
    assert len(waves) == 3
    assert sorted(np.concatenate(waves).tolist()) == list(range(20))
