"""Agreement reports: every figure equals its plain definition, intervals are those of a bootstrap."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring import metrics
from scoring.evaluation.comparison import qwk_change
from scoring.evaluation.drift import population_stability_index
from scoring.evaluation.reads import Reads
from scoring.evaluation.report import evaluate
from scoring.evaluation.resampling import Bootstrap
from scoring.types import Trait

QUICK = Bootstrap(num_resamples=100)
NAN = math.nan


def make_reads(machine, human, *, levels=(3,), first=None, second=None, groups=None):
    machine, human = (np.asarray(table, dtype=float).reshape(-1, len(levels)) for table in (machine, human))
    nobody = np.full_like(human, NAN)
    return Reads(
        item_id="ice",
        traits=[Trait(f"t{number}", count) for number, count in enumerate(levels)],
        response_ids=[f"r{number}" for number in range(len(human))],
        machine=machine,
        human=human,
        first=nobody if first is None else np.asarray(first, dtype=float).reshape(human.shape),
        second=nobody if second is None else np.asarray(second, dtype=float).reshape(human.shape),
        groups=groups or {},
    )


def noisy(num_answers, *, levels=4, wrong=0.2, seed=0):
    rng = np.random.default_rng(seed)
    human = rng.integers(levels, size=num_answers)
    machine = np.where(rng.random(num_answers) < wrong, rng.integers(levels, size=num_answers), human)
    return machine, human


def same(found, expected):
    return math.isclose(found, expected, abs_tol=1e-9) or (math.isnan(found) and math.isnan(expected))


pairs = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30)


@given(pairs)
def test_figures_of_a_trait_are_those_of_the_plain_definitions(answers):
    machine, human = np.array(answers).T
    figures = evaluate(make_reads(machine, human, levels=(4,)), QUICK).traits[0].figures
    plain = {
        "qwk": metrics.quadratic_weighted_kappa,
        "accuracy": metrics.accuracy,
        "exact_adjacent": metrics.adjacent_agreement,
        "macro_f1": metrics.macro_f1,
        "smd": metrics.standardised_mean_difference,
    }
    assert figures.keys() == plain.keys()
    for name, of in plain.items():
        assert same(figures[name].value, of(machine, human)), name
        assert figures[name].num_answers == len(answers)


@given(st.lists(st.tuples(*[st.integers(0, 1)] * 6), min_size=1, max_size=30))
def test_figures_of_several_labels_are_those_of_the_plain_definitions(answers):
    table = np.array(answers)
    machine, human = table[:, :3], table[:, 3:]
    figures = evaluate(make_reads(machine, human, levels=(2, 2, 2)), QUICK).figures
    plain = {
        "exact_match": metrics.exact_match,
        "per_label_accuracy": metrics.per_label_accuracy,
        "micro_f1": metrics.micro_f1_of_labels,
        "macro_f1": metrics.macro_f1_of_labels,
    }
    assert figures.keys() == plain.keys()
    for name, of in plain.items():
        assert same(figures[name].value, of(machine, human)), name


def test_an_analytic_item_has_no_label_f1_and_a_holistic_one_no_figures_over_traits():
    analytic = make_reads([[1, 2], [0, 1]], [[1, 2], [1, 1]], levels=(2, 3))
    assert evaluate(analytic, QUICK).figures.keys() == {"exact_match", "per_label_accuracy"}
    assert evaluate(make_reads([1, 2], [1, 2]), QUICK).figures == {}


def test_the_interval_of_a_share_is_as_wide_as_theory_says():
    machine, human = noisy(400, wrong=0.3)
    accuracy = evaluate(make_reads(machine, human, levels=(4,))).traits[0].figures["accuracy"]
    half = 1.96 * math.sqrt(accuracy.value * (1 - accuracy.value) / 400)
    assert accuracy.low == pytest.approx(accuracy.value - half, abs=0.006)
    assert accuracy.high == pytest.approx(accuracy.value + half, abs=0.006)


def test_the_interval_of_the_kappa_is_that_of_drawing_answers_one_by_one():
    machine, human = noisy(150)
    qwk = evaluate(make_reads(machine, human, levels=(4,)), Bootstrap(4000)).traits[0].figures["qwk"]
    draws = np.random.default_rng(1).integers(150, size=(4000, 150))
    drawn = [metrics.quadratic_weighted_kappa(machine[draw], human[draw]) for draw in draws]
    assert (qwk.low, qwk.high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=0.01)


def test_the_seed_decides_the_intervals_and_a_wider_coverage_widens_them():
    reads = make_reads(*noisy(100), levels=(4,))
    assert evaluate(reads, QUICK) == evaluate(reads, QUICK)
    other = evaluate(reads, dataclasses.replace(QUICK, seed=1)).traits[0].figures["qwk"]
    usual = evaluate(reads, QUICK).traits[0].figures["qwk"]
    wide = evaluate(reads, dataclasses.replace(QUICK, coverage=0.99)).traits[0].figures["qwk"]
    assert (other.low, other.high) != (usual.low, usual.high)
    assert wide.low < usual.low < usual.value < usual.high < wide.high


def test_missing_levels_are_left_out_trait_by_trait():
    machine = [[0, 1], [1, NAN], [1, 0], [NAN, 1]]
    human = [[0, 1], [1, 1], [NAN, 0], [1, 1]]
    report = evaluate(make_reads(machine, human, levels=(2, 2)), QUICK)
    assert (report.num_answers, [trait.num_answers for trait in report.traits]) == (4, [2, 3])
    assert report.figures["exact_match"].num_answers == 1
    nothing = evaluate(make_reads([NAN], [1]), QUICK).traits[0]
    assert (nothing.num_answers, nothing.figures, nothing.levels) == (0, {}, ())


def test_two_people_are_compared_where_both_have_read():
    first, second = noisy(80, seed=3)
    reads = make_reads(*noisy(80), levels=(4,), first=[*first[:79], NAN], second=second)
    found = evaluate(reads, QUICK).traits[0].human_qwk
    assert found.num_answers == 79
    assert found.value == pytest.approx(metrics.quadratic_weighted_kappa(first[:79], second[:79]))
    assert evaluate(make_reads([1], [1]), QUICK).traits[0].human_qwk is None


def test_levels_show_where_machine_and_people_part():
    (low, middle, high) = evaluate(make_reads([0, 0, 1, 2], [0, 1, 1, 1]), QUICK).traits[0].levels
    assert (low.num_human, low.num_machine, low.num_both) == (1, 2, 1)
    assert (middle.num_human, middle.num_machine, middle.num_both) == (3, 1, 1)
    assert (high.num_human, high.num_machine, high.num_both) == (0, 1, 0)


def test_a_group_that_the_machine_favours_stands_out():
    rng = np.random.default_rng(0)
    human = rng.integers(4, size=600)
    groups = np.where(rng.random(600) < 0.5, "north", "south")
    machine = np.clip(human + (groups == "north"), 0, 3)
    reads = make_reads(machine, human, levels=(4,), groups={"region": [*groups[:590], *[""] * 10]})
    north, south = evaluate(reads, QUICK).traits[0].groups
    assert (north.group, south.group) == ("north", "south")
    assert north.dsm.num_answers + south.dsm.num_answers == 590
    m, h, member = machine[:590], human[:590], groups[:590] == "north"
    plain = (m[member].mean() - m.mean()) / m.std(ddof=1) - (h[member].mean() - h.mean()) / h.std(ddof=1)
    assert north.dsm.value == pytest.approx(plain)
    assert north.dsm.low > 0.1
    assert south.dsm.high < -0.1


def test_a_shift_that_all_groups_share_is_no_unfairness():
    human = np.tile([0, 1, 2], 100)
    reads = make_reads(human + 1, human, levels=(4,), groups={"region": ["a", "b"] * 150})
    report = evaluate(reads, QUICK).traits[0]
    assert report.figures["smd"].value > 1
    assert all(abs(group.dsm.value) < 1e-9 for group in report.groups)


def test_a_paired_change_is_surer_than_two_separate_figures():
    champion, human = noisy(300)
    challenger = champion.copy()
    challenger[:10] = human[:10]
    change = qwk_change(champion, challenger, human, num_levels=4, bootstrap=Bootstrap())
    alone = evaluate(make_reads(champion, human, levels=(4,))).traits[0].figures["qwk"]
    plain = metrics.quadratic_weighted_kappa(challenger, human)
    assert change.value == pytest.approx(plain - alone.value)
    assert change.low >= 0
    assert change.high - change.low < (alone.high - alone.low) / 2
    nothing = np.array([], dtype=np.int64)
    assert qwk_change(nothing, nothing, nothing, num_levels=4, bootstrap=QUICK).num_answers == 0


def test_psi_is_small_without_drift_and_large_with_it():
    assert population_stability_index([100, 100], [200, 200]) == pytest.approx(0, abs=1e-9)
    assert population_stability_index([80, 120], [100, 100]) < 0.1
    assert population_stability_index([20, 180], [100, 100]) > 0.25
    assert math.isfinite(population_stability_index([200, 0], [0, 200]))
    by_hand = 0.4 * math.log(0.7 / 0.3) * 2
    assert population_stability_index([70_000, 30_000], [30_000, 70_000]) == pytest.approx(by_hand, abs=1e-3)


def test_tables_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"'ice': second is \(3, 1\), expected \(2, 1\)"):
        dataclasses.replace(make_reads([1, 2], [1, 2]), second=np.zeros((3, 1)))
    with pytest.raises(ValueError, match="1 values of region for 2 answers"):
        make_reads([1, 2], [1, 2], groups={"region": ["a"]})
