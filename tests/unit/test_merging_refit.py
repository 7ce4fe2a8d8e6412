"""Least squares: nothing at the same rank does better. Heads: the optimum that another library finds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

from scoring.merging.refit import (
    HeadData,
    choose_head,
    fit_head,
    head_loss,
    least_squares_updates,
    mixed_targets,
)
from scoring.merging.weights import merge_updates
from tests.unit.test_merging_weights import NUM_IN, close, update

SIZES = st.lists(st.integers(1, 3), min_size=1, max_size=3)


def moment(seed: int, num_rows: int = 40) -> torch.Tensor:
    rows = torch.randn(
        num_rows, NUM_IN, generator=torch.Generator().manual_seed(seed), dtype=torch.double
    ) @ torch.diag(torch.linspace(0.1, 2.0, NUM_IN, dtype=torch.double))
    return rows.t() @ rows / num_rows


def cost(merged, updates, moments) -> float:
    """`sum_i E |D x_i - D_i x_i|^2` over all layers."""
    total = 0.0
    for each, grams in zip(updates, moments, strict=True):
        for module, gram in grams.items():
            wrong = merged[module].dense() - each[module].dense()
            total += float((wrong @ gram @ wrong.t()).trace())
    return total


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10_000), SIZES, st.integers(1, 4))
def test_nothing_at_the_same_rank_does_better(seed: int, ranks: list[int], rank: int) -> None:
    updates = [{"a": update(seed + place, size)} for place, size in enumerate(ranks)]
    moments = [{"a": moment(seed + place)} for place in range(len(ranks))]
    fitted = least_squares_updates(updates, moments, rank=rank, shrinkage=1.0)
    assert fitted["a"].rank <= rank
    best = cost(fitted, updates, moments)
    rivals = [merge_updates(updates, rank=rank), *({"a": update(seed + n, rank)} for n in range(3))]
    whole = least_squares_updates(updates, moments, shrinkage=1.0)
    assert best <= min(cost(rival, updates, moments) for rival in rivals) + 1e-8
    assert cost(whole, updates, moments) <= best + 1e-8


@pytest.mark.parametrize("num", [1, 2, 3])
def test_one_or_equals_are_given_back_whatever_the_answers(num: int) -> None:
    alone = {"a": update(3), "b": update(4)}
    moments = [{"a": moment(seed), "b": moment(seed + 10)} for seed in range(num)]
    fitted = least_squares_updates([alone] * num, moments, rank=2)
    assert all(close(fitted[name].dense(), alone[name].dense()) for name in alone)


def made_data(num_answers: int = 300, num_levels: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    features = rng.normal(3.0, 0.5, (num_answers, 6))
    logits = 4 * (features - 3.0) @ rng.normal(size=(6, num_levels))
    levels = np.array([rng.choice(num_levels, p=softmax(row)) for row in logits])
    return features, levels


@pytest.mark.parametrize("num_levels", [2, 3])
def test_the_head_is_the_optimum_that_another_library_finds(num_levels: int) -> None:
    features, levels = made_data(num_levels=num_levels)
    data = HeadData(features, np.eye(num_levels)[levels])
    ours = fit_head(data, num_levels=[num_levels], penalty=0.01)
    scaled = (features - features.mean(0)) / np.sqrt(((features - features.mean(0)) ** 2).mean())
    # Two levels as one logit have half the freedom: the same optimum needs twice the penalty on it.
    strength = 1 / (0.01 * len(levels)) * (2 if num_levels == 2 else 1)
    theirs = LogisticRegression(C=strength, tol=1e-8, max_iter=5000).fit(scaled, levels)
    assert softmax(ours.logits(features), axis=1) == pytest.approx(theirs.predict_proba(scaled), abs=2e-3)


def test_several_traits_are_fitted_apart() -> None:
    features, levels = made_data()
    both = mixed_targets(
        np.column_stack([levels, levels > 0]).astype(np.int64), None, num_levels=[3, 2], teacher_weight=0.5
    )
    whole = fit_head(HeadData(features, both), num_levels=[3, 2], penalty=0.01)
    alone = fit_head(HeadData(features, both[:, 3:]), num_levels=[2], penalty=0.01)
    assert whole.weight[3:] == pytest.approx(alone.weight)
    assert whole.bias[3:] == pytest.approx(alone.bias)


def test_targets_mix_people_and_teacher_trait_by_trait() -> None:
    levels = np.array([[2, 0], [0, 1]])
    teacher = np.random.default_rng(0).normal(size=(2, 5)).astype(np.float32)
    people, taught, mixed = (
        mixed_targets(levels if weight < 1 else None, teacher, num_levels=[3, 2], teacher_weight=weight)
        for weight in (0.0, 1.0, 0.25)
    )
    assert people.tolist() == [[0, 0, 1, 1, 0], [1, 0, 0, 0, 1]]
    assert taught[:, :3] == pytest.approx(softmax(teacher[:, :3], axis=1), abs=1e-6)
    assert mixed == pytest.approx(0.75 * people + 0.25 * taught)
    for part in (mixed[:, :3], mixed[:, 3:]):
        assert part.sum(axis=1) == pytest.approx(np.ones(2))
    with pytest.raises(ValueError, match="needs a person"):
        mixed_targets(None, None, num_levels=[2], teacher_weight=0.5)


def test_the_head_with_the_least_validation_loss_is_taken() -> None:
    features, levels = made_data()
    data = [HeadData(features[part], np.eye(3)[levels[part]]) for part in (slice(200), slice(200, None))]
    heads = {penalty: fit_head(data[0], num_levels=[3], penalty=penalty) for penalty in (1e-4, 1e-2, 10.0)}
    losses = {penalty: head_loss(head, data[1], num_levels=[3]) for penalty, head in heads.items()}
    chosen = choose_head(*data, num_levels=[3], penalties=list(heads))
    assert head_loss(chosen, data[1], num_levels=[3]) == min(losses.values())
    assert losses[10.0] > min(losses.values())
    given = heads[1e-2]
    assert choose_head(*data, num_levels=[3], penalties=[10.0], others=[given]) is given
    nobody = HeadData(features[:0], np.zeros((0, 3)))
    first = choose_head(data[0], nobody, num_levels=[3], penalties=[10.0, 1e-4])
    assert first.weight == pytest.approx(heads[10.0].weight)
