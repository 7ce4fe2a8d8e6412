"""Follows batches until nothing waits, with a progress bar."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from db import reads
from workers.writer import database_errors

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine as Database

    from db.reads import BatchProgress

_POLL_S = 0.5


def wait_for_batch(
    database: Database,
    *,
    batch_id: int | None,
    on_progress: Callable[[int, int], None],
    timeout_s: float | None = None,
    check: Callable[[], None] = lambda: None,
) -> list[BatchProgress]:
    """Poll until no submission waits; returns the last state seen.

    Args:
        database: the ledger.
        batch_id: one batch, or None for the newest ten.
        on_progress: told (settled, accepted) at every look.
        timeout_s: give up after so long; None for never.
        check: called at every look; may raise to end the wait, for instance when no worker lives.
    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        with database_errors(), database.connect() as connection:
            found = reads.batches(connection, batch_id=batch_id)
        num_accepted = sum(batch.num_accepted for batch in found)
        num_waiting = sum(batch.num_waiting for batch in found)
        on_progress(num_accepted - num_waiting, num_accepted)
        if num_waiting == 0 or (deadline is not None and time.monotonic() > deadline):
            return found
        check()
        time.sleep(_POLL_S)
