"""The token budget is found by timing calls, and only calls that can tell."""

import pytest

from scoring.engines import budget
from scoring.engines.budget import TokenBudget

#: Seconds a token at each budget.
PACE = {256: 3.0, 512: 2.0, 1024: 1.0, 2048: 4.0}


class Clock:
    def __init__(self):
        self.now = 0.0

    def thread_time(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(budget, "time", made)
    return made


def call(found, clock, num_tokens):
    with found.measured(num_tokens) as max_tokens:
        clock.now += num_tokens * PACE[max_tokens]
    return max_tokens


def test_the_quickest_is_kept(clock):
    found = TokenBudget(None, device="cpu")
    used = [call(found, clock, 5000) for _ in range(8)]
    assert sorted(used) == sorted([*PACE, *PACE])
    assert found.is_found
    assert [call(found, clock, 5000) for _ in range(3)] == [1024] * 3


def test_a_short_call_decides_nothing(clock):
    found = TokenBudget(None, device="cpu")
    assert {call(found, clock, 100) for _ in range(50)} == {512}
    assert not found.is_found
    assert {call(found, clock, 1100) for _ in range(50)} == {256, 512}


def test_a_fixed_budget_is_not_searched(clock):
    found = TokenBudget(256, device="cpu")
    assert found.is_found
    assert call(found, clock, 10_000) == 256


def test_a_call_that_fails_is_no_trial(clock):
    found = TokenBudget(None, device="cpu")
    for _ in range(20):
        with pytest.raises(MemoryError), found.measured(10_000):
            raise MemoryError
    assert found.best == 512
    assert not found.is_found
