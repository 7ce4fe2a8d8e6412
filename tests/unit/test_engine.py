import logging
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.artifacts import ArtifactStore
from scoring.backbone import Backbone
from scoring.bank import AdapterBank, Site
from scoring.config import EngineConfig
from scoring.engines.rows import Reading, Rows, collapse, cut
from scoring.engines.tally import tally
from scoring.engines.torch import TorchEngine, encoders, pick_device
from scoring.engines.torch.bert import BertEncoder
from scoring.engines.torch.layouts import PackedLayout
from scoring.engines.torch.linear import DenseLinear
from scoring.errors import DeviceOutOfMemoryError, EngineUnavailableError, NotANumberError
from scoring.types import Decision, Requests
from tests.unit.tiny_encoders import (
    BERT_LINEARS,
    WORDS,
    peft_features,
    write_adapter,
    write_bare,
    write_encoder,
    write_scorer,
)

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

#: name -> (adapter, levels of its traits, pooling, longest input)
SCORERS = {
    "narrow": ("rank2", (2,), "mean", 32),
    "wide": ("rank5", (5, 2, 3), "mean", 32),
    "first": ("all", (4,), "cls", 32),
    "short": ("all", (3,), "mean", 6),
    "bare": ("bare", (3,), "mean", 32),
}
LINEARS = {
    "distilbert": ("q_lin", "k_lin", "v_lin", "out_lin", "lin1", "lin2"),
    "mpnet": ("attn.q", "attn.k", "attn.v", "attn.o", "intermediate.dense", "output.dense"),
    "modernbert": ("Wqkv", "Wo", "Wi"),
}
TEXTS = tuple(
    " ".join(WORDS[(start * 7 + step * (start + 1)) % len(WORDS)] for step in range(start % 13))
    for start in range(40)
)


class World:
    """An encoder, a store with scorers on it, and an engine that has loaded them."""

    def __init__(self, folder, family="bert"):
        write_encoder(folder / "encoder", family=family)
        self.backbone = Backbone.load(str(folder / "encoder"))
        self.store = ArtifactStore(folder / "store")
        linears = LINEARS.get(family, BERT_LINEARS)
        qv = linears[0], linears[2]
        self.extractors = {
            "rank2": write_adapter(self.store, self.backbone, seed=1, rank=2, targets=qv),
            "rank5": write_adapter(self.store, self.backbone, seed=2, rank=5, targets=qv),
            "all": write_adapter(self.store, self.backbone, seed=3, rank=3, targets=linears),
            "bare": write_bare(self.store, self.backbone),
        }
        self.keys = {
            name: write_scorer(
                self.store,
                self.backbone,
                self.extractors[extractor],
                name=name,
                levels=levels,
                pooling=pooling,
                max_tokens=max_tokens,
            )
            for name, (extractor, levels, pooling, max_tokens) in SCORERS.items()
        }

    def engine(self, **config):
        engine = TorchEngine(self.backbone, self.store, EngineConfig(**config))
        for key in self.keys.values():
            engine.load(key)
        return engine

    def oracle(self, name, texts):
        extractor, _, pooling, max_tokens = SCORERS[name]
        artifact = self.store.read_scorer(self.keys[name])
        features = peft_features(
            self.store, self.backbone, self.extractors[extractor], texts, pooling, max_tokens
        )
        return features @ artifact.head_weight.T + artifact.head_bias


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def engine(world):
    return world.engine(max_batch_tokens=128)


def mixed(world, texts=TEXTS):
    names = list(world.keys)
    chosen = [names[index % len(names)] for index in range(len(texts))]
    return chosen, Requests([world.keys[name] for name in chosen], list(texts))


def logits_of(engine, requests):
    scorers = [engine._roster[key] for key in requests.scorers]
    return engine._logits(scorers, engine.prepare(requests).token_ids)


def assert_oracle(world, engine, *, atol=1e-4):
    chosen, requests = mixed(world)
    logits = logits_of(engine, requests)
    for name in world.keys:
        places = [place for place, other in enumerate(chosen) if other == name]
        expected = world.oracle(name, [TEXTS[place] for place in places])
        np.testing.assert_allclose(logits[places, : expected.shape[1]], expected, atol=atol, rtol=0)
    return logits


def test_a_mixed_batch_gives_what_peft_gives(world, engine):
    assert engine.name.endswith("cpu fp32 packed")
    logits = assert_oracle(world, engine)
    assert np.abs(logits).max() > 1


def test_adapters_matter_in_these_tests(world):
    # Without this, an engine that ignores adapters could pass the comparisons above.
    with_adapter, _, bare, *_ = (
        peft_features(world.store, world.backbone, world.extractors[name], TEXTS[1:9], "mean", 32)
        for name in ("rank2", "rank5", "bare", "all")
    )
    assert (with_adapter - bare).abs().max() > 0.1


@pytest.mark.parametrize(
    ("family", "forward"),
    [
        ("roberta", "packed"),
        ("xlm-roberta", "packed"),
        ("distilbert", "transformers"),
        ("mpnet", "packed"),
        ("modernbert", "transformers"),
    ],
)
def test_other_families(tmp_path, caplog, family, forward):
    world = World(tmp_path, family)
    with caplog.at_level(logging.WARNING):
        engine = world.engine(max_batch_tokens=128)
    assert engine.name.endswith(forward)
    actions = [
        getattr(record, "action", None) for record in caplog.records if record.name.startswith("scoring")
    ]
    assert actions == (["encoder_fallback"] if forward == "transformers" else [])
    assert_oracle(world, engine)
    assert not any(module._forward_hooks for module in world.backbone.model.modules())


def test_the_padded_forward_agrees_with_the_packed_one(world, engine):
    other = world.engine(max_batch_tokens=128)
    padded = other._encoder._padded
    other._encoder = BertEncoder(world.backbone, padded, lambda _, layers: DenseLinear(layers))
    assert_like_packed(world, engine, other)


def test_transformers_own_forward_agrees_with_the_packed_one(world, engine, monkeypatch):
    monkeypatch.setattr(encoders, "is_bert_like", lambda _: False)
    other = world.engine(max_batch_tokens=128)
    assert other.name.endswith("transformers")
    assert_like_packed(world, engine, other)


def assert_like_packed(world, engine, other):
    _, requests = mixed(world)
    np.testing.assert_allclose(logits_of(other, requests), logits_of(engine, requests), atol=1e-5, rtol=0)
    assert_oracle(world, other)


def test_scores_stand_in_the_order_of_the_requests(world, engine):
    chosen, requests = mixed(world)
    scores = engine.score(requests)
    expected = [
        (answer, f"trait{trait}")
        for answer, name in enumerate(chosen)
        for trait in range(len(SCORERS[name][1]))
    ]
    assert list(zip(scores.answer.tolist(), scores.trait, strict=True)) == expected
    place = 0
    for answer, name in enumerate(chosen):
        column = 0
        logits = world.oracle(name, [TEXTS[answer]])[0]
        for num_levels in SCORERS[name][1]:
            probabilities = torch.softmax(logits[column : column + num_levels].double(), 0)
            np.testing.assert_allclose(scores.probabilities[place], probabilities, atol=1e-4)
            assert scores.level[place] == int(probabilities.argmax())
            assert scores.confidence[place] == pytest.approx(float(probabilities.max()), abs=1e-4)
            column += num_levels
            place += 1
    assert place == len(scores)


def test_no_request_gives_no_score(engine):
    assert len(engine.score(Requests([], []))) == 0


def test_answers_are_normalised(world, engine):
    key = world.keys["wide"]
    scores = engine.score(Requests([key, key], ["the ice melts", "  the \u200bice\n\tmelts "]))
    assert scores.probabilities[:3] == scores.probabilities[3:]


class CountingEncoder:
    """The engine's own encoder, keeping count of the rows that reach it."""

    def __init__(self, encoder):
        self.encoder = encoder
        self.num_rows = 0

    def features(self, rows):
        self.num_rows += len(rows)
        return self.encoder.features(rows)


def test_equal_answers_are_computed_once(world):
    engine = world.engine()
    engine._encoder = counting = CountingEncoder(engine._encoder)
    narrow, wide = world.keys["narrow"], world.keys["wide"]
    texts = ["the ice", "the  ice ", "no", "the ice"]
    scores = engine.score(Requests([narrow, narrow, narrow, wide], texts))
    assert counting.num_rows == 3
    assert scores.probabilities[0] == scores.probabilities[1] != scores.probabilities[2]


def test_scorers_on_one_merged_extractor_share_slot_and_computation(world):
    engine = world.engine()
    names = ("merged-a", "merged-b")
    keys = [
        write_scorer(world.store, world.backbone, world.extractors["rank5"], name=name, levels=(3,))
        for name in names
    ]
    for key in keys:
        engine.load(key)
    slots = {engine._roster[key].reading.slot for key in [*keys, world.keys["wide"]]}
    assert len(slots) == 1
    engine._encoder = counting = CountingEncoder(engine._encoder)
    engine.score(Requests(keys, ["the ice", "the ice"]))
    assert counting.num_rows == 1
    engine.unload(keys[0])
    assert_oracle(world, engine)


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_an_answers_score_never_depends_on_its_company(world, engine, data):
    _, requests = mixed(world)
    whole, logits = engine.score(requests), logits_of(engine, requests)
    order = data.draw(st.permutations(range(len(requests))))
    size = data.draw(st.integers(1, len(order)))
    first = np.searchsorted(whole.answer, np.arange(len(requests)))
    for start in range(0, len(order), size):
        part = order[start : start + size]
        subset = Requests([requests.scorers[i] for i in part], [requests.texts[i] for i in part])
        scores = engine.score(subset)
        places = np.array([first[part[a]] for a in scores.answer]) + [
            int(name.removeprefix("trait")) for name in scores.trait
        ]
        assert (scores.level == whole.level[places]).all()
        np.testing.assert_allclose(scores.confidence, whole.confidence[places], atol=1e-5)
        np.testing.assert_allclose(logits_of(engine, subset), logits[part], atol=1e-5, rtol=0)


@settings(deadline=None, max_examples=15)
@given(st.lists(st.sampled_from(sorted(SCORERS)), min_size=1, max_size=12))
def test_loading_and_unloading_in_any_order(world, toggles):
    engine = TorchEngine(world.backbone, world.store, EngineConfig())
    held = set()
    for name in toggles:
        if name in held:
            engine.unload(world.keys[name])
        else:
            engine.load(world.keys[name])
        held ^= {name}
    assert set(engine.loaded()) == {world.keys[name] for name in held}
    for name in held:
        logits = logits_of(engine, Requests([world.keys[name]] * 3, TEXTS[4:7]))
        expected = world.oracle(name, TEXTS[4:7])
        np.testing.assert_allclose(logits[:, : expected.shape[1]], expected, atol=1e-4, rtol=0)


def test_decisions_reach_the_scores(world):
    decision = Decision(temperature=3.0, cut_points=(0.4, 0.9), review_below=0.5)
    key = write_scorer(
        world.store, world.backbone, world.extractors["rank2"], name="decided", decision=decision
    )
    plain = write_scorer(world.store, world.backbone, world.extractors["rank2"], name="decided")
    engine = world.engine()
    engine.load(key)
    engine.load(plain)
    texts = list(TEXTS[:12])
    logits = logits_of(engine, Requests([plain] * 12, texts))[:, :3].astype(float)
    scores = engine.score(Requests([key] * 12, texts))
    odds = np.exp(logits / 3.0)
    probabilities = odds / odds.sum(1, keepdims=True)
    level = np.digitize(probabilities @ [0, 1, 2], [0.4, 0.9])
    assert scores.level.tolist() == level.tolist()
    np.testing.assert_allclose(scores.confidence, probabilities[np.arange(12), level], atol=1e-5)
    assert scores.needs_review.tolist() == (scores.confidence < 0.5).tolist()
    assert 0 < scores.needs_review.sum() < 12


class OverflowingEncoder:
    """The engine's own encoder, but rows of one length come out as no numbers."""

    def __init__(self, encoder, length):
        self.encoder = encoder
        self.length = length

    def features(self, rows):
        features = self.encoder.features(rows)
        features[torch.from_numpy(rows.lengths == self.length)] = float("inf")
        return features


def test_an_answer_without_finite_logits_gets_no_level_and_the_others_do(world):
    engine = world.engine()
    key, texts = world.keys["narrow"], ["the ice", "the ice melts", "no"]
    lengths = [len(ids) for ids in engine.prepare(Requests([key] * 3, texts)).token_ids]
    expected = engine.score(Requests([key] * 2, [texts[0], texts[2]]))
    engine._encoder = OverflowingEncoder(engine._encoder, lengths[1])
    with pytest.raises(NotANumberError, match=f"scorer {key[:12]} of item narrow: ") as told:
        engine.score(Requests([key] * 3, texts))
    assert "melts" not in str(told.value)
    others = engine.score(Requests([key] * 2, [texts[0], texts[2]]))
    assert others.probabilities == expected.probabilities


def test_what_stands_beyond_a_scorers_width_is_nobodys(world, engine):
    narrow = engine._roster[world.keys["narrow"]]
    logits = np.array([[1, 2, np.nan], [3, 0, np.inf]], dtype=np.float32)
    assert tally([narrow] * 2, logits).level.tolist() == [1, 0]


def test_an_unknown_scorer_is_a_key_error(engine):
    with pytest.raises(KeyError):
        engine.score(Requests(["f" * 64], ["ice"]))


def test_an_unloaded_scorer_cannot_be_asked_and_unloading_twice_is_free(world):
    engine = world.engine()
    engine.unload(world.keys["wide"])
    engine.unload(world.keys["wide"])
    with pytest.raises(KeyError):
        engine.score(Requests([world.keys["wide"]], ["ice"]))


def on_the_cpu(_rows):
    return torch.empty(2**60, dtype=torch.uint8)


def on_a_gpu(_rows):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


@pytest.mark.parametrize("features", [on_the_cpu, on_a_gpu])
def test_memory_that_cannot_be_had_is_told_apart(world, monkeypatch, features):
    engine = world.engine()
    monkeypatch.setattr(engine._encoder, "features", features)
    with pytest.raises(DeviceOutOfMemoryError):
        engine.score(Requests([world.keys["wide"]], ["ice"]))


@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(0, 3), st.booleans()), max_size=60),
    st.integers(1, 200),
)
def test_batches_hold_every_row_once_within_the_budget(shapes, budget):
    lengths, slots = (np.array([shape[n] for shape in shapes], dtype=np.intp) for n in (0, 1))
    is_int8 = np.array([shape[2] for shape in shapes], dtype=bool)
    rows = Rows([[0] * n for n in lengths], slots, np.zeros(len(shapes), dtype=bool), lengths, is_int8)
    batches = list(cut(rows, budget))
    together = [int(index) for batch in batches for index in batch]
    assert sorted(together) == list(range(len(shapes)))
    keys = [(is_int8[i], lengths[i], slots[i]) for i in together]
    assert keys == sorted(keys)
    for batch in batches:
        assert len(batch) == 1 or len(batch) * lengths[batch].max() <= budget
        assert len(set(is_int8[batch])) == 1


def test_prepared_requests_give_what_plain_ones_give_whatever_becomes_of_them(world, engine):
    _, requests = mixed(world)
    prepared = engine.prepare(requests)
    assert prepared.token_ids is not None
    plain = engine.score(requests)
    for asked in (
        prepared,
        Requests.joined([prepared.take(range(5)), prepared.take(range(5, len(prepared)))]),
        Requests.joined([prepared.take(range(5)), requests.take(range(5, len(requests)))]),
    ):
        assert engine.score(asked).level.tolist() == plain.level.tolist()
        np.testing.assert_allclose(engine.score(asked).confidence, plain.confidence, atol=1e-5)


def test_threads_that_prepare_at_once_do_not_cut_each_others_texts(world, engine):
    text = " ".join(["ice melts"] * 40)
    limits = {key: engine._roster[key].reading.max_tokens for key in world.keys.values()}
    assert len(set(limits.values())) > 1

    def lengths(key):
        return {len(ids) for _ in range(40) for ids in engine.prepare(Requests([key], [text])).token_ids}

    with ThreadPoolExecutor(len(limits)) as threads:
        found = dict(zip(limits, threads.map(lengths, limits), strict=True))
    assert found == {key: {min(limit, 80 + 2)} for key, limit in limits.items()}


def test_collapse_keeps_readings_apart():
    one, other = Reading(1, 32, "mean"), Reading(1, 32, "cls")
    rows, row_of = collapse([one, other, one, one], [(5, 6), (5, 6), (5, 6), (7,)])
    assert rows.token_ids == [[5, 6], [5, 6], [7]]
    assert rows.is_cls.tolist() == [False, True, False]
    assert row_of.tolist() == [0, 1, 0, 2]


@pytest.fixture(params=[1, 2])
def _num_threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_num_threads")
@pytest.mark.parametrize("length", [2, 3, 5, 7, 8, 9, 13, 20, 47])
def test_a_rows_adapter_adds_the_same_bit_for_bit_in_any_company(length):
    site = Site(32, dict.fromkeys("qkv", 48))
    bank = AdapterBank({"qkv": site}, device=torch.device("cpu"))
    slot = bank.add({path: (torch.randn(8, 32), torch.randn(48, 8)) for path in "qv"}, scale=2.0)
    x, before = torch.randn(12 * length, 32), torch.randn(12 * length, site.num_out)

    def adapted(first, last):
        rows = Rows.of([(Reading(slot, length, "mean"), [0] * length)] * (last - first))
        layout, part = PackedLayout(rows, bank, torch.device("cpu")), slice(first * length, last * length)
        fillers = torch.ones(len(layout.token_ids) - len(x[part]), 1)
        out = torch.cat([before[part], fillers * before[0]])
        layout.adapt("qkv", torch.cat([x[part], fillers * x[0]]), out)
        assert torch.equal(out[len(x[part]) :], fillers * before[0])
        return out[: len(x[part])]

    whole = adapted(0, 12)
    assert not torch.equal(whole, before)
    for first, last in ((0, 1), (3, 4), (5, 7), (2, 11), (11, 12)):
        assert torch.equal(adapted(first, last), whole[first * length : last * length])


@pytest.mark.parametrize("num_tokens", [1, 15, 16, 17, 100])
def test_a_packed_batch_is_filled_up_to_few_sizes(num_tokens):
    bank = AdapterBank({}, device=torch.device("cpu"))
    rows = Rows.of([(Reading(0, num_tokens, "mean"), [7] * num_tokens)])
    layout = PackedLayout(rows, bank, torch.device("cpu"))
    size = len(layout.token_ids)
    assert size % 16 == 0
    assert num_tokens <= size < num_tokens + 16
    assert len(layout.positions) == size
    states = torch.randn(size, 6)
    torch.testing.assert_close(layout.pool(states)[0], states[:num_tokens].mean(0))
    qkv = torch.randn(size, 18)
    assert layout.attend(qkv, 2, None).shape == (size, 6)


def test_cuda_by_name_where_there_is_none_is_told(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == pick_device("cpu") == "cpu"
    with pytest.raises(EngineUnavailableError, match="SCOREFOLD_ENGINE__DEVICE"):
        pick_device("cuda:0")
