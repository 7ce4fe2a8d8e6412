import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scoring.errors import IncompatibleArtifactError
from scoring.heads import HeadBank, decide
from scoring.types import Decision

CPU = torch.device("cpu")
tables = st.integers(2, 6).flatmap(
    lambda width: st.lists(
        st.lists(st.floats(-40, 40), min_size=width, max_size=width), min_size=1, max_size=8
    )
)


def make_head(width, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(width, 8, generator=generator), torch.randn(width, generator=generator)


@given(st.lists(st.one_of(st.integers(1, 7), st.just(0)), max_size=20), st.integers(0, 2**31))
def test_every_answer_meets_its_own_head(steps, seed):
    bank, held = HeadBank(8, device=CPU), {}
    for index, width in enumerate(steps):
        if width:
            head = make_head(width, index)
            slot = bank.add(*head)
            assert slot not in held
            held[slot] = head
        elif held:
            slot = min(held)
            bank.remove(slot)
            del held[slot]
    rng = np.random.default_rng(seed)
    features = torch.randn(4, 8, generator=torch.Generator().manual_seed(seed % 1000))
    slots = list(held) * 2
    row_of = rng.integers(4, size=len(slots))
    logits = bank.logits(features, row_of, slots)
    assert len(logits) == len(slots)
    for row, slot, computed in zip(row_of, slots, logits, strict=True):
        weight, bias = held[slot]
        expected = (weight @ features[row] + bias).numpy()
        np.testing.assert_allclose(computed[: len(bias)], expected, rtol=1e-5, atol=1e-5)


def test_more_answers_than_one_gather_holds():
    bank = HeadBank(8, device=CPU)
    weight, bias = make_head(3, 0)
    slot = bank.add(weight, bias)
    features = torch.randn(5, 8)
    row_of = np.arange(3000) % 5
    logits = bank.logits(features, row_of, [slot] * 3000)
    np.testing.assert_allclose(logits, (features @ weight.T + bias).numpy()[row_of], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("cut_points", [(), (0.5, 1.5)])
def test_what_is_not_a_number_goes_to_a_reader(cut_points):
    logits = np.array([[np.nan, 1, 2], [0, 9, 0]], dtype=np.float32)
    decided = decide(logits, Decision(cut_points=cut_points))
    assert decided.needs_review.tolist() == [True, False]


def test_refuses_a_head_for_other_features():
    with pytest.raises(IncompatibleArtifactError, match="width 9"):
        HeadBank(8, device=CPU).add(torch.zeros(3, 9), torch.zeros(3))


@given(tables, st.floats(0.1, 5))
def test_probabilities_are_the_softmax_and_confidence_the_decided_levels_own(table, temperature):
    logits = np.array(table, dtype=np.float32)
    decided = decide(logits, Decision(temperature=temperature))
    expected = torch.softmax(torch.from_numpy(logits).double() / temperature, dim=1).numpy()
    np.testing.assert_allclose(decided.probabilities, expected, atol=1e-12)
    assert (decided.level == expected.argmax(axis=1)).all()
    np.testing.assert_allclose(decided.confidence, expected.max(axis=1), rtol=1e-6)


@pytest.mark.parametrize(
    ("probabilities", "level"),
    [([1, 0, 0], 0), ([0.4, 0.2, 0.4], 1), ([0.1, 0.1, 0.8], 2), ([0, 1, 0], 1), ([0.55, 0.3, 0.15], 1)],
)
def test_cut_points_lie_on_the_expected_level(probabilities, level):
    with np.errstate(divide="ignore"):
        logits = np.maximum(np.log(np.array([probabilities])), -1e4)
    decided = decide(logits, Decision(cut_points=(0.6, 1.5)))
    assert decided.level.tolist() == [level]
    np.testing.assert_allclose(decided.confidence, [probabilities[level]], atol=1e-6)


def test_review_below_the_threshold_and_not_at_it():
    logits = np.log(np.array([[0.5, 0.5], [0.25, 0.75], [0.1, 0.9]]))
    assert decide(logits, Decision(review_below=0.75)).needs_review.tolist() == [True, False, False]
    assert not decide(logits, Decision()).needs_review.any()
