"""The gates and the policy file: what passes, what fails, and what nobody can tell yet."""

from dataclasses import replace

import numpy as np
import pytest

from scoring.errors import InvalidInputError
from scoring.evaluation.gates import Verdict, judge, overall
from scoring.evaluation.policy import read_policy
from scoring.evaluation.report import Figure, ItemReport, TraitReport, evaluate
from tests.unit.test_evaluation import make_reads, noisy

POLICY = read_policy()


def policy_with(tmp_path, *replacements):
    from importlib.resources import files

    content = files("scoring.evaluation").joinpath("policy.toml").read_text(encoding="utf-8")
    for old, new in replacements:
        assert old in content
        content = content.replace(old, new)
    path = tmp_path / "policy.toml"
    path.write_text(content, encoding="utf-8")
    return path


def report(*, qwk=0.8, smd=0.0, n=300, human=None, groups=()):
    figures = {"qwk": Figure(qwk, qwk, qwk, n), "smd": Figure(smd, smd, smd, n)}
    return ItemReport("ice", n, (TraitReport("score", n, figures, human, (), groups),), {})


def checks_of(judgement):
    return {check.name: check.verdict for check in judgement.checks}


@pytest.mark.parametrize(
    ("figures", "verdict"),
    [
        ({}, Verdict.PASS),
        ({"qwk": 0.70}, Verdict.PASS),
        ({"qwk": 0.699}, Verdict.FAIL),
        ({"smd": 0.15}, Verdict.PASS),
        ({"smd": -0.16}, Verdict.FAIL),
        ({"n": 200}, Verdict.PASS),
        ({"n": 199}, Verdict.INCONCLUSIVE),
        ({"n": 199, "qwk": 0.1}, Verdict.INCONCLUSIVE),
        ({"n": 0}, Verdict.INCONCLUSIVE),
        ({"qwk": float("nan")}, Verdict.INCONCLUSIVE),
        ({"human": Figure(0.90, 0.8, 1, 200)}, Verdict.PASS),
        ({"human": Figure(0.91, 0.8, 1, 200)}, Verdict.FAIL),
        # A handful of double reads says nothing, and holds nothing up.
        ({"human": Figure(0.99, 0.8, 1, 199)}, Verdict.PASS),
        # Nor does a handful of answers beside many double reads.
        ({"human": Figure(0.99, 0.8, 1, 220), "n": 6}, Verdict.INCONCLUSIVE),
    ],
)
def test_thresholds_of_the_default_policy(figures, verdict):
    assert judge(report(**figures), POLICY).verdict is verdict


def test_where_nothing_is_required_nothing_passes():
    fine = judge(report(), POLICY).checks
    assert overall(fine) is Verdict.PASS
    assert overall([]) is Verdict.INCONCLUSIVE
    assert overall([replace(check, is_required=False) for check in fine]) is Verdict.INCONCLUSIVE


def test_a_group_treated_otherwise_fails_the_scorer():
    rng = np.random.default_rng(0)
    human = rng.integers(4, size=600)
    favoured = rng.random(600) < 0.5
    shift = np.where(favoured, 1, -1) * (rng.random(600) < 0.25)
    machine = np.clip(human + shift, 0, 3)
    groups = {"region": list(np.where(favoured, "north", "south"))}
    found = judge(evaluate(make_reads(machine, human, levels=(4,), groups=groups)), POLICY)
    assert checks_of(found)["qwk"] is Verdict.PASS
    assert checks_of(found)["smd"] is Verdict.PASS
    assert checks_of(found)["dsm region=north"] is Verdict.FAIL
    assert found.verdict is Verdict.FAIL
    few = {"region": [*groups["region"][:150], *[""] * 450]}
    found = judge(evaluate(make_reads(machine, human, levels=(4,), groups=few)), POLICY)
    assert checks_of(found)["dsm region=north"] is Verdict.INCONCLUSIVE
    assert found.verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        (Figure(0.0, -0.02, 0.02, 200), Verdict.PASS),
        (Figure(0.0, -0.021, 0.02, 200), Verdict.INCONCLUSIVE),
        (Figure(-0.05, -0.08, -0.021, 200), Verdict.FAIL),
        (Figure(0.1, 0.08, 0.12, 199), Verdict.INCONCLUSIVE),
        (Figure(0.1, float("nan"), float("nan"), 200), Verdict.INCONCLUSIVE),
    ],
)
def test_a_challenger_must_not_be_worse_by_more_than_the_margin(change, verdict):
    assert judge(report(), POLICY, changes={"score": change}).verdict is verdict


def test_one_failing_trait_fails_the_item():
    good, bad = report().traits[0], report(qwk=0.5).traits[0]
    assert judge(ItemReport("ice", 300, (good, bad), {}), POLICY).verdict is Verdict.FAIL
    few = report(n=10).traits[0]
    assert judge(ItemReport("ice", 300, (good, few), {}), POLICY).verdict is Verdict.INCONCLUSIVE
    assert judge(ItemReport("ice", 300, (bad, few), {}), POLICY).verdict is Verdict.FAIL


def test_a_policy_may_require_more(tmp_path):
    strict = read_policy(policy_with(tmp_path, ('["qwk", "smd"]', '["qwk", "dsm", "qwk_below_human"]')))
    found = judge(report(), strict)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert checks_of(found)["dsm"] is Verdict.INCONCLUSIVE
    assert checks_of(found)["qwk_below_human"] is Verdict.INCONCLUSIVE
    # What is not required can still refuse.
    assert judge(report(smd=0.5), strict).verdict is Verdict.FAIL


def test_an_item_may_have_thresholds_of_its_own(tmp_path):
    path = policy_with(tmp_path, ("[comparison]", "[items.ice]\nmin_qwk = 0.6\n\n[comparison]"))
    assert judge(report(qwk=0.65), read_policy(path)).verdict is Verdict.PASS
    assert judge(report(qwk=0.65), POLICY).verdict is Verdict.FAIL


def test_real_noise_passes_when_small_and_fails_when_large():
    for wrong, verdict in ((0.1, Verdict.PASS), (0.7, Verdict.FAIL)):
        reads = make_reads(*noisy(500, wrong=wrong), levels=(4,))
        assert judge(evaluate(reads, POLICY.evidence.bootstrap()), POLICY).verdict is verdict


@pytest.mark.parametrize(
    ("replacement", "message"),
    [
        (("min_qwk = 0.70", "min_kwk = 0.70"), "agreement.min_qwk: Field required"),
        (("min_qwk = 0.70", "min_qwk = 0.70\nmax_qkw = 1"), "agreement.max_qkw: Extra inputs"),
        (("min_qwk = 0.70", "min_qwk = 7"), "agreement.min_qwk: Input should be less"),
        (("min_answers = 200 ", "min_answers = 0 "), "evidence.min_answers: Input should be greater"),
        (('on_inconclusive = "shadow"', 'on_inconclusive = "champion"'), "retraining.on_inconclusive"),
        (("[comparison]", "[items.ice]\nmin_kwk = 0.6\n[comparison]"), "min_kwk: Extra inputs"),
        (("[comparison]", "[comparison"), "not TOML"),
    ],
)
def test_a_policy_with_a_slip_is_refused_by_name(tmp_path, replacement, message):
    path = policy_with(tmp_path, replacement)
    with pytest.raises(InvalidInputError) as refusal:
        read_policy(path)
    assert str(refusal.value).startswith(f"{path}: ")
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_policy_that_is_not_there_or_not_text_is_refused(tmp_path):
    with pytest.raises(InvalidInputError, match="No such file"):
        read_policy(tmp_path / "none.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidInputError, match="not TOML in UTF-8"):
        read_policy(tmp_path / "bytes.toml")
