"""From logits to levels: temperature, cut points, review threshold."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax
from scipy.stats import beta

from scoring import calibration
from scoring.calibration import (
    REVIEW_ALL,
    fit_cut_points,
    fit_decision,
    fit_temperature,
    review_threshold,
)
from scoring.heads import decide
from scoring.metrics import quadratic_weighted_kappa
from scoring.types import Decision


def drawn_from(logits, seed):
    """Levels drawn from the softmax of the logits."""
    rng = np.random.default_rng(seed)
    return np.array([rng.choice(len(row), p=row) for row in softmax(logits, axis=1)])


@pytest.mark.parametrize("true_temperature", [0.5, 1.0, 3.0])
def test_temperature_is_found_again(true_temperature):
    logits = np.random.default_rng(1).normal(size=(4000, 3)) * 2
    human = drawn_from(logits, seed=2)
    assert fit_temperature(logits * true_temperature, human) == pytest.approx(true_temperature, rel=0.1)


def test_temperature_never_makes_the_loss_worse():
    rng = np.random.default_rng(3)
    logits, human = rng.normal(size=(60, 4)) * 5, rng.integers(4, size=60)
    rows = np.arange(60)
    raw = -log_softmax(logits, axis=1)[rows, human].mean()
    scaled = -log_softmax(logits / fit_temperature(logits, human), axis=1)[rows, human].mean()
    assert scaled < raw


def test_a_dozen_right_answers_ask_for_less_than_hundreds_do():
    logits, human = np.tile([0.0, 2.0], (12, 1)), np.ones(12, dtype=np.int64)

    few, many = fit_temperature(logits, human), fit_temperature(np.tile(logits, (50, 1)), np.tile(human, 50))

    assert 0.6 < few < 1
    assert many < 0.4


def test_temperature_stays_bounded_when_all_answers_are_right():
    logits = np.eye(3)[[0, 1, 2] * 5] * 30
    assert 0.2 <= fit_temperature(logits, np.array([0, 1, 2] * 5)) <= 10


def test_cut_points_are_kept_where_they_pay():
    """The middle level is always the second guess: only the expected level can find it."""
    human = np.repeat([0, 1, 2], 60)
    rows = {0: [0.90, 0.05, 0.05], 1: [0.45, 0.10, 0.45], 2: [0.05, 0.05, 0.90]}
    probabilities = np.array([rows[level] for level in human])
    points = fit_cut_points(probabilities, human)
    assert len(points) == 2
    assert list(points) == sorted(points)
    assert (decide(np.log(probabilities), Decision(cut_points=points)).level == human).all()


def test_cut_points_are_dropped_where_they_do_not_pay():
    human = np.repeat([0, 1, 2], 20)
    assert fit_cut_points(np.eye(3)[human], human) == ()


def test_a_gain_within_its_own_noise_is_not_kept():
    """Cut points would mend two answers and spoil one: better here, but by luck as likely as not."""
    sure = np.eye(3)[np.repeat([0, 1, 2], 20)]
    probabilities = np.vstack([sure, [[0.45, 0.1, 0.45]] * 3])
    human = np.append(np.repeat([0, 1, 2], 20), [1, 1, 0])
    assert fit_cut_points(probabilities, human) == ()


def test_two_levels_need_no_cut_points():
    rng = np.random.default_rng(4)
    assert fit_cut_points(softmax(rng.normal(size=(50, 2)), axis=1), rng.integers(2, size=50)) == ()


def test_cut_points_hold_up_when_the_human_levels_do_not_vary():
    assert (
        fit_cut_points(softmax(np.random.default_rng(5).normal(size=(30, 4)), axis=1), np.full(30, 2)) == ()
    )


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_fitted_cut_points_ascend_and_never_lose_on_their_own_answers(seed):
    rng = np.random.default_rng(seed)
    human = rng.integers(4, size=60)
    logits = rng.normal(size=(60, 4)) + 1.5 * np.eye(4)[human]
    points = fit_cut_points(softmax(logits, axis=1), human)
    assert list(points) == sorted(points)
    with_points = quadratic_weighted_kappa(decide(logits, Decision(cut_points=points)).level, human)
    assert with_points >= quadratic_weighted_kappa(decide(logits, Decision()).level, human)


def test_review_threshold_follows_the_exact_binomial():
    confidence = np.linspace(1, 0.5, 200)
    # Risk 0.1 at 0.9: 22 answers allow no error; the first error among many costs a few answers more.
    assert review_threshold(confidence[:21], np.ones(21), risk=0.1, certainty=0.9) == REVIEW_ALL
    assert review_threshold(confidence[:22], np.ones(22), risk=0.1, certainty=0.9) == confidence[21]
    right = np.ones(200)
    right[100:] = 0
    threshold = review_threshold(confidence, right, risk=0.1, certainty=0.9)
    num_accepted = int((confidence >= threshold).sum())
    num_errors = num_accepted - 100
    # The upper Clopper-Pearson limit of the error rate is within the risk here and beyond it one answer on.
    assert beta.ppf(0.9, num_errors + 1, num_accepted - num_errors) <= 0.1
    assert beta.ppf(0.9, num_errors + 2, num_accepted - num_errors) > 0.1


def test_equal_confidences_are_accepted_or_reviewed_together():
    right = np.array([1] * 30 + [0] * 30)
    assert review_threshold(np.full(60, 0.9), right, risk=0.1, certainty=0.9) == REVIEW_ALL
    assert review_threshold(np.full(60, 0.9), np.ones(60), risk=0.1, certainty=0.9) == 0.9


def test_the_stated_risk_is_kept_about_as_often_as_stated():
    rng, num_broken, num_automated = np.random.default_rng(6), 0, 0
    for _ in range(300):
        confidence = rng.uniform(0.5, 1, size=150)
        threshold = review_threshold(confidence, rng.random(150) < confidence, risk=0.1, certainty=0.9)
        if threshold < 1:
            num_automated += 1
            num_broken += 1 - (1 + threshold) / 2 > 0.1
    assert num_automated > 100
    assert num_broken / 300 <= 0.13


def test_an_item_with_few_answers_starts_at_full_review():
    rng = np.random.default_rng(7)
    human = rng.integers(3, size=15)
    logits = rng.normal(size=(15, 3))
    decision = fit_decision(logits, human, risk=0.1, certainty=0.9)
    assert decision.review_below == REVIEW_ALL
    assert decide(logits, decision).needs_review.all()


def test_a_good_item_earns_automation():
    logits = np.random.default_rng(8).normal(size=(600, 3)) * 4
    human = drawn_from(logits, seed=9)
    decision = fit_decision(logits * 2, human, risk=0.1, certainty=0.9)
    decided = decide(logits * 2, decision)
    kept = ~decided.needs_review
    assert decision.temperature == pytest.approx(2, rel=0.25)
    assert kept.mean() > 0.3
    assert (decided.level[kept] != human[kept]).mean() <= 0.1


def noisy(num_answers, *, seed):
    """Logits that know nothing of half of the answers, and human levels."""
    rng = np.random.default_rng(seed)
    human = rng.integers(3, size=num_answers)
    logits = rng.normal(size=(num_answers, 3))
    logits[np.arange(num_answers), human] += 2.0 * (rng.random(num_answers) < 0.5)
    return logits, human


def test_no_answer_is_decided_by_a_fit_that_saw_it(monkeypatch):
    logits, human = noisy(60, seed=1)
    seen = []

    def spy(table, levels):
        seen.append({tuple(row) for row in table})
        return 1.0

    monkeypatch.setattr(calibration, "fit_temperature", spy)
    monkeypatch.setattr(calibration, "decide", lambda table, _: spied(table))

    def spied(table):
        assert not seen[-1] & {tuple(row) for row in table}
        assert len(seen[-1]) + len(table) == 60
        return decide(table, Decision())

    confidence, right = calibration.cross_fitted(logits, human)
    assert len(seen) == 5
    assert (confidence > 0).all()
    assert right.mean() == pytest.approx((logits.argmax(1) == human).mean())


def test_parts_of_cross_fitting_hold_their_share_of_every_level():
    human = np.array([0] * 50 + [1] * 5 + [2] * 5)
    logits = np.eye(3)[human] + np.random.default_rng(2).normal(size=(60, 3))
    confidence, right = calibration.cross_fitted(logits, human)
    assert confidence.shape == right.shape == (60,)
    # With every level known to every fit no part is decided blindly, so that rare levels can be right too.
    assert right[human > 0].any()


def test_cut_points_chosen_on_few_answers_do_not_buy_automation():
    """Fitted and judged on the same answers, a decision looks better than it is; cross-fitted, less so."""
    better = []
    for seed in range(12):
        logits, human = noisy(40, seed=seed)
        own = fit_decision(logits, human, risk=0.1, certainty=0.9)
        _, right = calibration.cross_fitted(logits, human)
        better.append((decide(logits, own).level == human).mean() - right.mean())
    assert np.mean(better) > 0.02
