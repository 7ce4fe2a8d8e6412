"""Agreement figures against scikit-learn and against their definitions."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, cohen_kappa_score, f1_score

from scoring import metrics

PAIRS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=60)
TABLES = st.integers(1, 5).flatmap(
    lambda width: st.lists(
        st.tuples(*[st.lists(st.integers(0, 1), min_size=width, max_size=width)] * 2), min_size=1, max_size=30
    )
)


def columns(pairs):
    machine, human = zip(*pairs, strict=True)
    return np.array(machine), np.array(human)


def discrete_kappa(machine, human, num_levels):
    """1 - sum(w O) / sum(w E), straight from the definition."""
    observed = np.zeros((num_levels, num_levels))
    np.add.at(observed, (machine, human), 1 / len(machine))
    expected = np.outer(observed.sum(1), observed.sum(0))
    weights = np.subtract.outer(np.arange(num_levels), np.arange(num_levels)) ** 2
    return 1 - (weights * observed).sum() / (weights * expected).sum()


@given(PAIRS)
def test_closed_form_equals_the_discrete_kappa_and_scikit_learn(pairs):
    machine, human = columns(pairs)
    ours = metrics.quadratic_weighted_kappa(machine, human)
    if len(np.union1d(machine, human)) == 1:
        assert math.isnan(ours)
        return
    assert ours == pytest.approx(discrete_kappa(machine, human, 5), abs=1e-9)
    assert ours == pytest.approx(
        cohen_kappa_score(machine, human, labels=range(5), weights="quadratic"), abs=1e-9
    )


@given(PAIRS)
def test_accuracy_and_macro_f1_agree_with_scikit_learn(pairs):
    machine, human = columns(pairs)
    assert metrics.accuracy(machine, human) == pytest.approx(accuracy_score(human, machine))
    assert metrics.macro_f1(machine, human) == pytest.approx(f1_score(human, machine, average="macro"))
    assert metrics.adjacent_agreement(machine, human) == np.mean(np.abs(machine - human) <= 1)


@given(TABLES)
def test_label_figures_agree_with_scikit_learn(pairs):
    machine, human = columns(pairs)
    cells = {"micro": metrics.micro_f1_of_labels, "macro": metrics.macro_f1_of_labels}
    seen = (machine + human).any(axis=0)
    for average, ours in cells.items():
        if not seen.any():
            assert math.isnan(ours(machine, human))
            continue
        theirs = f1_score(human, machine, labels=np.flatnonzero(seen), average=average, zero_division=0)
        if machine.shape[1] > 1:
            assert ours(machine, human) == pytest.approx(theirs)
    assert metrics.exact_match(machine, human) == np.mean(
        [(m == h).all() for m, h in zip(machine, human, strict=True)]
    )
    assert metrics.per_label_accuracy(machine, human) == pytest.approx(np.mean(machine == human))


def test_standardised_mean_difference_is_in_human_standard_deviations():
    human = np.array([0, 1, 2, 3])
    assert metrics.standardised_mean_difference(human + 1, human) == pytest.approx(1 / np.std(human, ddof=1))
    assert metrics.standardised_mean_difference(human, human) == 0


@pytest.mark.parametrize(
    ("figure", "num_answers_needed"),
    [
        (metrics.quadratic_weighted_kappa, 2),
        (metrics.standardised_mean_difference, 2),
        (metrics.accuracy, 1),
        (metrics.macro_f1, 1),
    ],
)
def test_too_few_answers_give_nan(figure, num_answers_needed):
    for num_answers in range(num_answers_needed):
        assert math.isnan(figure([1] * num_answers, [1] * num_answers))
    levels = list(range(num_answers_needed))
    assert not math.isnan(figure(levels, levels))


@pytest.mark.parametrize(
    "figure",
    [
        metrics.exact_match,
        metrics.per_label_accuracy,
        metrics.micro_f1_of_labels,
        metrics.macro_f1_of_labels,
    ],
)
def test_empty_tables_give_nan(figure):
    assert math.isnan(figure(np.zeros((0, 3)), np.zeros((0, 3))))


def test_one_class_only():
    assert math.isnan(metrics.quadratic_weighted_kappa([1, 1, 1], [1, 1, 1]))
    assert metrics.quadratic_weighted_kappa([1, 1, 1], [0, 1, 2]) == 0
    assert math.isnan(metrics.standardised_mean_difference([0, 1], [2, 2]))
    assert metrics.macro_f1([1, 1], [1, 1]) == 1


def test_columns_of_different_length_are_refused():
    with pytest.raises(ValueError, match="alike"):
        metrics.accuracy([1, 2], [1])
    with pytest.raises(ValueError, match="2 axes"):
        metrics.exact_match([1, 2], [1, 2])
