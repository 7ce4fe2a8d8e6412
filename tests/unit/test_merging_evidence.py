"""Evidence: the figures are those of the metrics, changes are paired, and the verdict is non-inferiority."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring import metrics
from scoring.evaluation.gates import Verdict
from scoring.evaluation.policy import read_policy
from scoring.merging.evidence import FIGURES, PairedLevels, compare
from scoring.types import Trait
from tests.schoolhouse import policy

POLICY = policy(evidence={"min_answers": 50, "num_resamples": 300})


def paired(
    num_answers: int,
    *,
    wrong_before: float,
    wrong_after: float,
    levels: tuple[int, ...] = (3,),
    seed: int = 0,
) -> PairedLevels:
    """People's levels, and two scorers who give another one with these probabilities."""
    rng = np.random.default_rng(seed)
    human = np.column_stack([rng.integers(0, width, num_answers) for width in levels])

    def scored(share: float) -> np.ndarray:
        shift = np.column_stack([rng.integers(1, width, num_answers) for width in levels])
        is_wrong = rng.random(human.shape) < share
        return np.where(is_wrong, (human + shift) % np.array(levels), human)

    traits = tuple(Trait(f"t{place}", width) for place, width in enumerate(levels))
    return PairedLevels("item", traits, scored(wrong_before), scored(wrong_after), human)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([(3,), (4, 3), (2, 2, 2)]))
def test_figures_are_those_of_the_metrics(seed: int, levels: tuple[int, ...]) -> None:
    pair = paired(60, wrong_before=0.2, wrong_after=0.3, levels=levels, seed=seed)
    (found,) = compare([pair], POLICY).items
    is_multi_label = levels == (2, 2, 2)
    for table, side in ((pair.before, "before"), (pair.after, "after")):
        columns = [(table[:, at], pair.human[:, at]) for at in range(len(levels))]
        expected = {
            "qwk": np.mean([metrics.quadratic_weighted_kappa(*column) for column in columns]),
            "exact_match": metrics.exact_match(table, pair.human),
            "per_label_accuracy": metrics.per_label_accuracy(table, pair.human),
            "micro_f1": metrics.micro_f1_of_labels(table, pair.human)
            if is_multi_label
            else np.mean([metrics.accuracy(*column) for column in columns]),
            "macro_f1": metrics.macro_f1_of_labels(table, pair.human)
            if is_multi_label
            else np.mean([metrics.macro_f1(*column) for column in columns]),
        }
        assert tuple(expected) != ()
        for name in FIGURES:
            assert getattr(found.figures[name], side) == pytest.approx(expected[name]), name


def test_the_new_scorers_agreement_is_told_trait_by_trait() -> None:
    pair = paired(60, wrong_before=0.2, wrong_after=0.3, levels=(4, 3))
    (found,) = compare([pair], POLICY).items
    assert [(one.trait, one.num_answers) for one in found.traits] == [("t0", 60), ("t1", 60)]
    for at, one in enumerate(found.traits):
        column = pair.after[:, at], pair.human[:, at]
        assert one.qwk == metrics.quadratic_weighted_kappa(*column)
        assert one.accuracy == metrics.accuracy(*column)
        assert one.macro_f1 == metrics.macro_f1(*column)
    nothing = PairedLevels("item", pair.traits, pair.before[:0], pair.after[:0], pair.human[:0])
    assert compare([nothing], POLICY).items[0].traits == ()


def test_the_same_levels_change_nothing_for_certain() -> None:
    pair = paired(100, wrong_before=0.2, wrong_after=0.2)
    same = PairedLevels(pair.item_id, pair.traits, pair.before, pair.before, pair.human)
    found = compare([same], POLICY)
    for name in FIGURES:
        change = found.items[0].figures[name].change
        assert (change.value, change.low, change.high) == (0, 0, 0)
    assert found.verdict is Verdict.PASS


def test_a_loss_beyond_the_margin_fails_and_few_answers_say_nothing() -> None:
    assert compare([paired(400, wrong_before=0.05, wrong_after=0.4)], POLICY).verdict is Verdict.FAIL
    assert compare([paired(40, wrong_before=0.05, wrong_after=0.4)], POLICY).verdict is Verdict.INCONCLUSIVE
    better = paired(400, wrong_before=0.3, wrong_after=0.05)
    assert compare([better], POLICY).verdict is Verdict.PASS
    worse = paired(400, wrong_before=0.05, wrong_after=0.4, seed=1)
    assert compare([better, worse], POLICY).verdict is Verdict.FAIL
    # An item that was bad before may stay bad: that is not the merge's business.
    bad = paired(400, wrong_before=0.6, wrong_after=0.6)
    same = PairedLevels(bad.item_id, bad.traits, bad.before, bad.before, bad.human)
    assert compare([same], POLICY).verdict is Verdict.PASS


def test_the_mean_over_items_has_a_narrower_interval_than_each() -> None:
    items = [paired(100, wrong_before=0.1, wrong_after=0.15, seed=seed) for seed in range(6)]
    found = compare(items, POLICY)
    mean = found.changes["qwk"]
    assert mean.value == pytest.approx(np.mean([one.figures["qwk"].change.value for one in found.items]))
    assert mean.num_answers == 600
    widths = [one.figures["qwk"].change.high - one.figures["qwk"].change.low for one in found.items]
    assert mean.high - mean.low < 0.7 * np.mean(widths)
    assert mean.low < mean.value < mean.high


def test_without_answers_there_is_no_figure_and_no_verdict() -> None:
    nobody = paired(0, wrong_before=0.1, wrong_after=0.1)
    found = compare([nobody], read_policy())
    assert found.verdict is Verdict.INCONCLUSIVE
    assert np.isnan(found.changes["qwk"].value)
    both = compare([nobody, paired(100, wrong_before=0.1, wrong_after=0.1)], POLICY)
    assert both.changes["qwk"].num_answers == 100


def test_a_label_that_one_scorer_never_gives_makes_no_item_better() -> None:
    """Its kappa was 0 with one false alarm and is not defined without: neither is a change of the others."""
    rng = np.random.default_rng(3)
    human = np.column_stack([rng.integers(2, size=(150, 2)), np.zeros(150, dtype=int)])
    before, after = human.copy(), human.copy()
    before[0, 2] = 1
    after[:20, 0] ^= 1
    traits = [Trait(name, 2) for name in ("claim", "evidence", "rare")]
    (one,) = compare([PairedLevels("air", traits, before, after, human)], read_policy()).items
    assert one.figures["qwk"].before == one.figures["macro_f1"].before == 1.0
    assert -0.2 < one.figures["qwk"].change.value < -0.05
    assert one.figures["macro_f1"].change.value < -0.03
    assert one.figures["qwk"].change.low < one.figures["qwk"].change.value < one.figures["qwk"].change.high
