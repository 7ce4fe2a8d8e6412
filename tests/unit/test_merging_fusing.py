"""A group becomes one extractor: by the method its answers allow, with heads and calibration fitted again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from scoring.calibration import REVIEW_ALL
from scoring.config import EngineConfig
from scoring.engines.findings import LINEAGE_KEY
from scoring.engines.torch import TorchEngine
from scoring.engines.torch.kernels import int8_works
from scoring.errors import InvalidInputError
from scoring.merging import fusing
from scoring.merging.fusing import FusionConfig, fitting_method, fuse
from scoring.merging.joint import JointConfig, Lesson, train_jointly
from scoring.merging.refit import mixed_targets
from scoring.merging.storing import store_fusion
from scoring.merging.weights import merge_updates
from scoring.training.evaluation import fit_decisions
from scoring.types import Requests
from tests.unit.group_lessons import Group

if TYPE_CHECKING:
    from pathlib import Path

    from scoring.merging.members import Member, Pupil

BRIEF = FusionConfig(
    min_read=30, min_answers=20, joint=JointConfig(max_epochs=3, adapter_lr=5e-3, head_lr=1e-2)
)


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Group:
    return Group(tmp_path_factory.mktemp("group"))


def lesson(pupil: Pupil) -> Lesson:
    targets = [
        mixed_targets(one.levels, None, num_levels=pupil.member.item.num_levels, teacher_weight=0.0)
        for one in (pupil.train, pupil.validation)
    ]
    return Lesson(
        pupil.member.item.num_levels,
        pupil.member.head,
        pupil.train.inputs,
        targets[0],
        pupil.validation.inputs,
        targets[1],
    )


def test_joint_training_learns_and_keeps_its_best_state(group: Group) -> None:
    _, pupils = group.taught()
    lessons = [lesson(pupil) for pupil in pupils]
    start = merge_updates([pupil.updates for pupil in pupils], rank=4)
    before = {name: weight.clone() for name, weight in group.backbone.model.state_dict().items()}
    found = [train_jointly(lessons, start, backbone=group.backbone, config=BRIEF.joint) for _ in range(2)]
    losses = found[0].validation_losses
    assert min(losses[1:]) < losses[0]
    assert found[1].validation_losses == losses
    assert all(torch.equal(found[0].updates[name].dense(), found[1].updates[name].dense()) for name in start)
    assert all(
        torch.equal(weight, before[name]) for name, weight in group.backbone.model.state_dict().items()
    )


def test_a_joint_training_that_only_harms_gives_its_start_back(group: Group) -> None:
    _, pupils = group.taught()
    start = merge_updates([pupil.updates for pupil in pupils], rank=4)
    wild = JointConfig(max_epochs=1, adapter_lr=10.0, head_lr=50.0, max_grad_norm=1e6)
    found = train_jointly([lesson(pupil) for pupil in pupils], start, backbone=group.backbone, config=wild)
    assert found.validation_losses[1] > found.validation_losses[0]
    assert all(torch.allclose(found.updates[name].dense(), start[name].dense(), atol=1e-5) for name in start)
    for pupil, head in zip(pupils, found.heads, strict=True):
        assert head.weight == pytest.approx(pupil.member.head.weight, abs=1e-6)


@pytest.mark.parametrize("num_batches", [1, 2, 3, 4])
def test_a_group_of_few_batches_can_be_trained(num_batches: int, group: Group) -> None:
    """Nine steps of three epochs, a tenth of them warm-up, leave the schedule no step to warm up in."""
    _, pupils = group.taught()
    lessons = [lesson(pupil) for pupil in pupils]
    start = merge_updates([pupil.updates for pupil in pupils], rank=4)
    num_answers = sum(len(one.train.token_ids) for one in lessons)
    brief = JointConfig(max_epochs=3, batch_size=-(-num_answers // num_batches))
    found = train_jointly(lessons, start, backbone=group.backbone, config=brief)
    assert 2 <= len(found.validation_losses) <= 4


def test_ranks_that_differ_and_no_answers_are_refused(group: Group) -> None:
    _, pupils = group.taught()
    start = merge_updates([pupil.updates for pupil in pupils], rank=4)
    name = next(iter(start))
    odd = {**start, name: merge_updates([{name: start[name]}], rank=2)[name]}
    with pytest.raises(InvalidInputError, match="one rank"):
        train_jointly([lesson(pupils[0])], odd, backbone=group.backbone)
    with pytest.raises(InvalidInputError, match="at least one member"):
        fuse([], reader=group.taught()[0], backbone=group.backbone)


@pytest.mark.parametrize(
    ("num_read", "num_unread", "method"), [(40, 0, "joint"), (10, 30, "least_squares"), (10, 0, "mean")]
)
def test_the_method_is_what_the_answers_allow(num_read, num_unread, method, group: Group) -> None:
    rich = group.members[0]
    poor = replace(rich, train=rich.train[:num_read], validation=(), unread=["no"] * num_unread)
    _, pupils = Group.taught(with_members(group, [rich, poor]))
    assert fitting_method(pupils, BRIEF) == method


def with_members(group: Group, members: list[Member]) -> Group:
    other = object.__new__(Group)
    other.backbone, other.store, other.members = group.backbone, group.store, members
    return other


def test_without_validation_answers_everything_goes_to_a_person(group: Group) -> None:
    blind = replace(group.members[0], validation=())
    reader, pupils = with_members(group, [blind, group.members[1]]).taught()
    config = replace(BRIEF, method="least_squares")
    fusion = fuse(pupils, reader=reader, backbone=group.backbone, config=config)
    assert fusion.decisions[0]["trait0"].review_below == REVIEW_ALL


def test_a_members_own_promise_is_kept(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained for a risk of 1%, an item is not merged for the 5% of the defaults."""
    reader, pupils = group.taught()
    scorer = replace(pupils[0].member.scorer, lineage={"config": {"review_risk": 0.01}})
    pupils = [replace(pupils[0], member=replace(pupils[0].member, scorer=scorer)), *pupils[1:]]
    told = []

    def noted(*given: object, risk: float, certainty: float) -> object:
        told.append((risk, certainty))
        return fit_decisions(*given, risk=risk, certainty=certainty)

    monkeypatch.setattr(fusing, "fit_decisions", noted)
    config = replace(BRIEF, method="mean", review_certainty=0.8)
    fuse(pupils, reader=reader, backbone=group.backbone, config=config)
    assert told == [(0.01, 0.8)] + [(config.review_risk, 0.8)] * (len(pupils) - 1)


def test_the_ways_beside_the_mean_give_another_extractor(group: Group) -> None:
    reader, pupils = group.taught()
    told = {
        way: fuse(pupils, reader=reader, backbone=group.backbone, config=replace(BRIEF, method=way))
        for way in ("mean", "ties", "aligned_ties")
    }
    whole = {way: torch.cat([one.dense().ravel() for one in f.updates.values()]) for way, f in told.items()}
    assert not torch.allclose(whole["mean"], whole["ties"])
    assert not torch.allclose(whole["ties"], whole["aligned_ties"])
    assert {fusion.method for fusion in told.values()} == set(told)


def test_heads_are_kept_where_that_is_asked_for(group: Group) -> None:
    reader, pupils = group.taught()
    config = replace(BRIEF, method="mean", refits_heads=False)
    kept = fuse(pupils, reader=reader, backbone=group.backbone, config=config)
    for pupil, head in zip(pupils, kept.heads, strict=True):
        assert np.array_equal(head.weight, pupil.member.head.weight)
    assert {update.rank for update in kept.updates.values()} == {4}


def test_a_stored_group_loads_as_any_scorer_and_shares_its_extractor(group: Group, tmp_path: Path) -> None:
    reader, pupils = group.taught()
    fusion = fuse(pupils, reader=reader, backbone=group.backbone, config=BRIEF)
    assert fusion.method == "joint"
    stored = [
        store_fusion(fusion, group.members, reader=reader, store=group.store, lineage={"seed": 1})
        for _ in range(2)
    ]
    assert stored[0].scorer_keys == stored[1].scorer_keys
    assert stored[0].extractor.parents == tuple(member.scorer.extractor for member in group.members)
    engine = TorchEngine(group.backbone, group.store, EngineConfig())
    for key in stored[0].scorer_keys:
        engine.load(key)  # golden rows and all
    scorers = [group.store.read_scorer(key) for key in stored[0].scorer_keys]
    assert {scorer.extractor for scorer in scorers} == {stored[0].extractor_key}
    for scorer, member in zip(scorers, group.members, strict=True):
        finding = scorer.lineage[LINEAGE_KEY]
        assert finding["num_answers"] == len(member.validation) if int8_works() else finding is None
    texts = [one.text for one in group.members[1].validation]
    scores = engine.score(Requests([stored[0].scorer_keys[1]] * len(texts), texts))
    logits = fusion.heads[1].logits(reader.features(reader.read(texts), fusion.updates))
    assert scores.level.tolist() == decided(logits, fusion.decisions[1]["trait0"])


def decided(logits: np.ndarray, decision: object) -> list[int]:
    from scoring.heads import decide

    return decide(logits, decision).level.tolist()
