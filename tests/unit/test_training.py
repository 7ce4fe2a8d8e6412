"""Training one item on a tiny random encoder: what is refused, what is kept, what is left behind."""

import hashlib
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import AutoModel

from scoring.artifacts import ArtifactStore
from scoring.backbone import Backbone
from scoring.config import LoraShape, TrainingConfig
from scoring.errors import InvalidInputError
from scoring.heads import decide
from scoring.training.evaluation import split_logits
from scoring.training.finetuning import train_item
from scoring.training.golden import GOLDEN_TEXTS
from scoring.types import ItemId, ItemSpec, LabelledAnswer, Trait
from tests.unit.tiny_encoders import WORDS, store_folder, write_encoder

QUICK = TrainingConfig(
    max_epochs=3, min_steps=0, max_tokens=32, num_adapted_layers=1, lora=LoraShape(rank=2, alpha=4.0)
)
HOLISTIC = ItemSpec(ItemId("ice"), "Why does ice melt?", "en", (Trait("score", 3),))
ANALYTIC = ItemSpec(ItemId("sun"), "Why?", "en", (Trait("warmth", 2), Trait("light", 2), Trait("depth", 3)))


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return Backbone.load(write_encoder(tmp_path_factory.mktemp("encoder")))


@pytest.fixture
def store(tmp_path):
    return ArtifactStore(tmp_path)


def made_up(num_answers, *, item=HOLISTIC, seed=0, fold=None):
    """Answers whose level in each trait is how often the trait's own word occurs."""
    rng = np.random.default_rng(seed)
    own = dict(zip((trait.name for trait in item.traits), ("heat", "light", "energy"), strict=False))
    others = [word for word in WORDS if word not in own.values()]
    answers = []
    for number in range(num_answers):
        levels = {trait.name: int(rng.integers(trait.num_levels)) for trait in item.traits}
        words = [*rng.choice(others, size=int(rng.integers(2, 7)))]
        for name, level in levels.items():
            words += [own[name]] * level
        rng.shuffle(words)
        answers.append(LabelledAnswer(f"r{number}", " ".join(words), levels, fold))
    return answers


def fingerprint(backbone):
    digest = hashlib.sha256()
    for name, tensor in sorted(backbone.model.state_dict().items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


def test_training_learns_and_improves_on_chance(backbone, store):
    config = TrainingConfig(
        max_epochs=8, max_tokens=32, min_steps=0, patience=8, adapter_lr=5e-3, head_lr=1e-2
    )
    losses = []
    report = train_item(
        HOLISTIC, made_up(300), backbone=backbone, store=store, config=config, progress=losses.append
    )
    assert report.metrics[0].qwk > 0.6
    assert report.metrics[0].num_answers == report.num_test
    assert report.num_train + report.num_validation + report.num_test == 300
    assert [epoch.number for epoch in losses] == list(range(1, report.num_epochs + 1))
    assert losses[0].validation_loss == pytest.approx(math.log(3), abs=0.4)
    assert min(epoch.validation_loss for epoch in losses) < 0.8 * math.log(3)


def test_the_backbone_is_left_exactly_as_found(backbone, store):
    ids = torch.tensor([[2, 5, 6, 7, 3]])
    modules = {name: type(module) for name, module in backbone.model.named_modules()}
    before, output = fingerprint(backbone), backbone.model(input_ids=ids).last_hidden_state
    train_item(HOLISTIC, made_up(60), backbone=backbone, store=store, config=QUICK)
    assert fingerprint(backbone) == before
    assert torch.equal(backbone.model(input_ids=ids).last_hidden_state, output)
    assert {name: type(module) for name, module in backbone.model.named_modules()} == modules
    assert not any(parameter.requires_grad for parameter in backbone.model.parameters())
    assert not any(module.training for module in backbone.model.modules())


def test_the_backbone_survives_a_crash_in_the_middle(backbone, store):
    def crash(epoch):
        raise RuntimeError(f"epoch {epoch.number}")

    before = fingerprint(backbone)
    with pytest.raises(RuntimeError, match="epoch 1"):
        train_item(HOLISTIC, made_up(60), backbone=backbone, store=store, config=QUICK, progress=crash)
    assert fingerprint(backbone) == before
    assert not any("lora" in name for name, _ in backbone.model.named_modules())
    assert not any(module.training for module in backbone.model.modules())


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # PEFT asks for it itself
@pytest.mark.parametrize("num_adapted_layers", [1, 2, None])
def test_plain_peft_gives_the_golden_logits_from_the_files_on_disk(backbone, store, num_adapted_layers):
    config = replace(QUICK, num_adapted_layers=num_adapted_layers)
    report = train_item(ANALYTIC, made_up(80, item=ANALYTIC), backbone=backbone, store=store, config=config)
    scorer = store.read_scorer(report.scorer_key)
    folder = f"{store_folder(store)}/extractors/{report.extractor_key}"
    encoder = PeftModel.from_pretrained(AutoModel.from_pretrained(backbone.name), folder).eval()
    assert scorer.golden_texts == GOLDEN_TEXTS
    layers = {int(path.split(".")[2]) for path in store.read_extractor(report.extractor_key).modules()}
    assert layers == ({1} if num_adapted_layers == 1 else {0, 1})
    with torch.inference_mode():
        for ids, golden in zip(backbone.encode(GOLDEN_TEXTS, 32), scorer.golden_logits, strict=True):
            feature = encoder(input_ids=torch.tensor([ids])).last_hidden_state[0].mean(0)
            assert torch.allclose(scorer.head_weight @ feature + scorer.head_bias, golden, atol=1e-5)


def test_several_traits_are_one_head_and_one_decision_each(backbone, store):
    report = train_item(ANALYTIC, made_up(80, item=ANALYTIC), backbone=backbone, store=store, config=QUICK)
    scorer = store.read_scorer(report.scorer_key)
    assert scorer.head_weight.shape == (7, backbone.hidden_size)
    assert set(scorer.decisions) == {"warmth", "light", "depth"}
    assert [figures.trait for figures in report.metrics] == ["warmth", "light", "depth"]
    tables = split_logits(ANALYTIC, scorer.golden_logits.numpy())
    assert [table.shape[1] for table in tables.values()] == [2, 2, 3]
    assert np.array_equal(np.hstack(list(tables.values())), scorer.golden_logits.numpy())
    for name, table in tables.items():
        assert np.allclose(decide(table, scorer.decisions[name]).probabilities.sum(axis=1), 1)


def test_same_answers_and_seed_give_the_same_scorer(backbone, store):
    torch.manual_seed(1)
    first = train_item(HOLISTIC, made_up(60), backbone=backbone, store=store, config=QUICK)
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    second = train_item(HOLISTIC, made_up(60), backbone=backbone, store=store, config=QUICK)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert second.scorer_key == first.scorer_key
    reseeded = replace(QUICK, seed=1)
    third = train_item(HOLISTIC, made_up(60), backbone=backbone, store=store, config=reseeded)
    assert third.scorer_key != first.scorer_key


def test_the_best_epoch_is_kept_and_patience_ends_the_run(backbone, store):
    # A rate this high makes the validation loss rise after a few epochs.
    wild = replace(QUICK, max_epochs=30, patience=2, adapter_lr=0.1, head_lr=0.3)
    epochs = []
    report = train_item(
        HOLISTIC, made_up(60), backbone=backbone, store=store, config=wild, progress=epochs.append
    )
    lineage = store.read_scorer(report.scorer_key).lineage
    losses = [epoch.validation_loss for epoch in epochs]
    assert report.num_epochs < 30
    assert lineage["kept_epoch"] == losses.index(min(losses)) + 1 == report.num_epochs - 2


def test_lineage_says_what_was_trained_on_what(backbone, store):
    answers = made_up(60)
    report = train_item(HOLISTIC, answers, backbone=backbone, store=store, config=QUICK)
    lineage = store.read_scorer(report.scorer_key).lineage
    assert lineage["config"]["seed"] == QUICK.seed
    assert lineage["num_train"] == report.num_train
    again = train_item(HOLISTIC, answers[::-1], backbone=backbone, store=store, config=QUICK)
    assert store.read_scorer(again.scorer_key).lineage["data_sha256"] == lineage["data_sha256"]
    changed = [*answers[:-1], LabelledAnswer("r59", "no", {"score": 0})]
    other = train_item(HOLISTIC, changed, backbone=backbone, store=store, config=QUICK)
    assert store.read_scorer(other.scorer_key).lineage["data_sha256"] != lineage["data_sha256"]


def test_an_empty_test_fold_gives_no_metrics(backbone, store):
    answers = made_up(40, fold="train") + [
        LabelledAnswer(f"v{number}", answer.text, answer.levels, "validation")
        for number, answer in enumerate(made_up(20, seed=1))
    ]
    report = train_item(HOLISTIC, answers, backbone=backbone, store=store, config=QUICK)
    assert report.num_test == 0
    assert report.metrics == ()


def test_a_level_never_seen_in_training_is_a_warning(backbone, store):
    answers = [answer for answer in made_up(90) if answer.levels["score"] != 2]
    report = train_item(HOLISTIC, answers, backbone=backbone, store=store, config=QUICK)
    assert report.warnings == ("trait 'score': no training answer has level 2",)


def with_last(answers, **changes):
    last = answers[-1]
    fields = {"response_id": last.response_id, "text": last.text, "levels": last.levels, "fold": last.fold}
    return [*answers[:-1], LabelledAnswer(**(fields | changes))]


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([], "0 scored answers, training needs at least 20"),
        (made_up(19), "19 scored answers"),
        (
            with_last(made_up(40), levels={"score": 3}),
            r"'r39': level 3 of trait 'score' is outside of 0\.\.2",
        ),
        (with_last(made_up(40), levels={"score": -1}), "level -1"),
        (with_last(made_up(40), levels={}), "has levels for nothing, the item's traits are score"),
        (with_last(made_up(40), levels={"score": 1, "depth": 1}), "has levels for depth, score"),
        (with_last(made_up(40), response_id="r0"), "response 'r0' occurs twice"),
        (made_up(40, fold="train"), "the validation fold is empty"),
        (made_up(40, fold="validation"), "the train fold is empty"),
        (
            [LabelledAnswer(f"r{n}", f"text {n}", {"score": 1}) for n in range(60)],
            "all training answers have the same level",
        ),
    ],
)
def test_answers_that_cannot_train_are_refused(backbone, store, answers, message):
    with pytest.raises(InvalidInputError, match=message) as refusal:
        train_item(HOLISTIC, answers, backbone=backbone, store=store, config=QUICK)
    assert "'ice'" in str(refusal.value)
