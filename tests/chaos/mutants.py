"""Deliberate faults, one at a time: each takes away one guard of the promise, and must turn a run red.

They patch a worker process from outside; none is reachable from the product.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from db import judging, ledger
from workers import housekeeping, pipeline
from workers.doors import gate, stream
from workers.roster import RosterKeeper

if TYPE_CHECKING:
    from collections.abc import Callable


def no_fence() -> None:
    """A finish writes whatever its claim once held, whoever holds it now."""
    fence = "AND state = 'leased' AND token = :token\n    RETURNING submission_id\n), written"
    ledger._FINISH = _replaced(ledger._FINISH, fence, "RETURNING submission_id\n), written")


def ack_before_commit() -> None:
    """The stream's entries are settled as soon as they are read."""
    take = stream.StreamReader._take

    def hasty(reader: stream.StreamReader) -> list[stream.Entry]:
        entries = take(reader)
        if entries:
            settle(reader, [number for number, _ in entries])
        return entries

    settle = stream.StreamReader._settle
    stream.StreamReader._take = hasty
    stream.StreamReader._settle = lambda _reader, _numbers: None


def no_sweeper() -> None:
    """What vanished workers held is never taken back."""
    housekeeping.ledger.sweep = lambda *_, **__: ledger.Sweep(0, 0)


def no_redispatch() -> None:
    """A message is sent once; if it gets lost, nobody notices."""
    ledger._DUE = _replaced(
        ledger._DUE, "OR w.dispatched_at < now() - make_interval(secs => :stale_s)", "OR :stale_s < 0"
    )


def attempts_at_finish() -> None:
    """Attempts are counted when they end well, so that those that end the process never are."""
    ledger._CLAIM = _replaced(
        ledger._CLAIM,
        "num_attempts = least(w.num_attempts + 1, 32767),\n"
        "        num_solo_attempts = least(w.num_solo_attempts + CAST(:solo AS int), 32767)",
        "num_attempts = w.num_attempts + 0 * CAST(:solo AS int)",
    )
    ledger._GIVE_BACK = _replaced(
        ledger._GIVE_BACK,
        "num_attempts = num_attempts - 1, num_solo_attempts = num_solo_attempts - :solo,",
        "num_solo_attempts = num_solo_attempts - 0 * CAST(:solo AS int),",
    )


def no_heartbeat() -> None:
    """Leases are never renewed."""
    pipeline.Pipeline.renew = lambda _pipeline: None


def conflict_overwrites() -> None:
    """The same key with other content replaces what the ledger had."""
    judging._ACCEPT = _replaced(
        judging._ACCEPT,
        "ON CONFLICT (source, response_id, attempt) DO NOTHING",
        "ON CONFLICT (source, response_id, attempt) DO UPDATE"
        " SET text = excluded.text, content_sha256 = excluded.content_sha256",
    ).replace(
        "SELECT submission_id, item_id FROM added RETURNING 1",
        "SELECT submission_id, item_id FROM added ON CONFLICT DO NOTHING RETURNING 1",
    )


def no_gate() -> None:
    """Whatever stands in a broker's list goes straight to kombu."""
    gate.Gate.__call__ = lambda _gate, reply: reply


def stale_roster() -> None:
    """Promotions and roll-backs are not followed."""
    RosterKeeper.follow = lambda _keeper: False


MUTANTS: dict[str, Callable[[], None]] = {
    mutant.__name__: mutant
    for mutant in (
        no_fence,
        ack_before_commit,
        no_sweeper,
        no_redispatch,
        attempts_at_finish,
        no_heartbeat,
        conflict_overwrites,
        no_gate,
        stale_roster,
    )
}


def _replaced(statement: str, old: str, new: str) -> str:
    # A mutant that changes nothing would prove nothing.
    if statement.count(old) != 1:
        raise ValueError(f"the statement has changed: {old!r} does not stand in it once")
    return statement.replace(old, new)
