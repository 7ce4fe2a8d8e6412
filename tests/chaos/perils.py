"""An engine for hard times: some answers are slow, some end the process, and every run is counted.

Wraps the real engine of a chaos worker. The words that trigger it travel in the answers' text.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from scoring.engine import Engine
    from scoring.types import BankState, Requests, ScorerKey, Scores

#: An answer with this word ends its process, as a fault in a native library would.
CRASH = "zzcrash"
#: An answer with this word takes longer than a lease lasts without renewal.
SLOW = "zzslow"


class PerilousEngine:
    """The engine behind it, with a tally of answers that survives any kill."""

    def __init__(self, engine: Engine, *, tally: Path, slow_s: float) -> None:
        self._engine = engine
        self._slow_s = slow_s
        self._tally = os.open(tally, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    @property
    def name(self) -> str:
        return self._engine.name

    def label(self, scorer: ScorerKey) -> str:
        return self._engine.label(scorer)

    def load(self, scorer: ScorerKey) -> None:
        self._engine.load(scorer)

    def unload(self, scorer: ScorerKey) -> None:
        self._engine.unload(scorer)

    def bank(self) -> BankState:
        return self._engine.bank()

    def loaded(self) -> Iterable[ScorerKey]:
        return self._engine.loaded()

    def prepare(self, requests: Requests) -> Requests:
        return self._engine.prepare(requests)

    def score(self, requests: Requests) -> Scores:
        # Counted before: what a kill interrupts is work done in vain as well.
        os.write(self._tally, f"{len(requests)}\n".encode())
        if any(CRASH in text for text in requests.texts):
            # To this thread, as a native fault would: one sent to the process may end it some milliseconds
            # later, and by then this thread has scored and committed.
            signal.pthread_kill(threading.get_ident(), signal.SIGSEGV)
        if any(SLOW in text for text in requests.texts):
            time.sleep(self._slow_s)
        return self._engine.score(requests)


def num_tallied(tally: Path) -> int:
    """Answers that engines have been asked for, by all processes together."""
    return sum(map(int, tally.read_text().split())) if tally.exists() else 0
