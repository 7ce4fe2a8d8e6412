"""Lets claims run side by side, or one claim alone in its process.

A submission that has failed once is a suspect: if it kills the process, nothing else may be in hand.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Turnstile:
    """A readers-writer lock in which the one who wants to be alone goes first."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._num_shared = 0
        self._num_waiting_alone = 0
        self._alone = False

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Run beside others."""
        with self._changed:
            self._changed.wait_for(lambda: not self._alone and self._num_waiting_alone == 0)
            self._num_shared += 1
        try:
            yield
        finally:
            with self._changed:
                self._num_shared -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Run when nobody else does, and keep others out."""
        with self._changed:
            self._num_waiting_alone += 1
            self._changed.wait_for(lambda: not self._alone and self._num_shared == 0)
            self._num_waiting_alone -= 1
            self._alone = True
        try:
            yield
        finally:
            with self._changed:
                self._alone = False
                self._changed.notify_all()
