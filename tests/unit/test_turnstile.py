"""The turnstile: many side by side, or one alone, and whoever waits to be alone gets his turn."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from workers.turnstile import Turnstile

#: A crowd that is never interrupted goes home after so many entries.
MAX_ENTRIES = 1500


class Hall:
    """Counts who is inside, and remembers whether anybody ever stood beside a lonely one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.num_inside = 0
        self.num_most = 0
        self.disturbed = False

    def visit(self, *, alone: bool, stay_s: float = 0.001) -> None:
        with self._lock:
            self.disturbed |= alone and self.num_inside > 0
            self.num_inside += 1
            self.num_most = max(self.num_most, self.num_inside)
        time.sleep(stay_s)
        with self._lock:
            self.num_inside -= 1
            self.disturbed |= alone and self.num_inside > 0


@pytest.fixture
def turnstile() -> Turnstile:
    return Turnstile()


def test_shared_run_side_by_side(turnstile):
    inside = threading.Barrier(4, timeout=10)

    def enter() -> None:
        with turnstile.shared():
            inside.wait()

    with ThreadPoolExecutor(4) as threads:
        for entered in [threads.submit(enter) for _ in range(4)]:
            entered.result(10)


def test_alone_means_alone_among_shared_and_among_its_like(turnstile):
    hall = Hall()

    def enter(number: int) -> None:
        alone = number % 3 == 0
        with turnstile.alone() if alone else turnstile.shared():
            hall.visit(alone=alone)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(enter, range(240), timeout=30))
    assert not hall.disturbed
    assert hall.num_inside == 0
    assert hall.num_most > 1


def test_newcomers_do_not_starve_the_one_who_waits_to_be_alone(turnstile):
    started, done = threading.Barrier(4, timeout=10), threading.Event()
    entries: list[int] = []

    def crowd(number: int) -> None:
        with turnstile.shared():
            started.wait()
            time.sleep(0.002 * number)
        # Three threads relay each other: without a right of way there is always one inside.
        while not done.is_set() and len(entries) < MAX_ENTRIES:
            with turnstile.shared():
                entries.append(number)
                time.sleep(0.002)

    with ThreadPoolExecutor(3) as threads:
        crowded = [threads.submit(crowd, number) for number in range(3)]
        started.wait()
        try:
            for _ in range(5):
                num_before = len(entries)
                with turnstile.alone():
                    assert len(entries) - num_before < MAX_ENTRIES / 10
                time.sleep(0.02)
        finally:
            done.set()
        for one in crowded:
            one.result(10)
    assert len(entries) > 5


def test_shared_wait_while_one_is_alone(turnstile):
    entered = threading.Event()

    def enter() -> None:
        with turnstile.shared():
            entered.set()

    with ThreadPoolExecutor(1) as threads:
        with turnstile.alone():
            waiting = threads.submit(enter)
            assert not entered.wait(0.1)
        waiting.result(10)
    assert entered.is_set()


@pytest.mark.parametrize("kind", ["shared", "alone"])
def test_an_exception_inside_lets_the_next_one_in(turnstile, kind):
    with suppress(ZeroDivisionError), getattr(turnstile, kind)():
        _ = 1 / 0
    with ThreadPoolExecutor(1) as threads:

        def enter(which: str) -> str:
            with getattr(turnstile, which)():
                return which

        assert [threads.submit(enter, which).result(5) for which in ("alone", "shared")] == [
            "alone",
            "shared",
        ]
