"""What a person does with quarantine: try again, or close; bytes go through the same desk as any event."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from db import quarantine
from scoring.errors import InvalidInputError
from workers.doors.desk import Desk, Letter, origin_of
from workers.writer import database_errors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection
    from sqlalchemy import Engine as Database

    from db.quarantine import Case
    from workers.settings import IntakeSettings

#: Doors whose bytes are events; at the broker's gate stand hints, which the ledger makes anew by itself.
_EVENT_DOORS = ("stream", "task")
_HINT = "a message in the broker carries nothing of its own; purge it"


@dataclass(frozen=True, slots=True)
class Retried:
    """What became of cases that were tried again."""

    #: Submissions that wait to be scored, and events that are in the ledger now.
    num_released: int
    #: Numbers of the cases that were refused once more, with the reason.
    refused: tuple[tuple[int, str], ...] = ()


def retry(database: Database, ids: Sequence[int], *, actor: str, limits: IntakeSettings) -> Retried:
    """Let submissions be scored again, and events be judged again, in one transaction.

    Args:
        database: the ledger.
        ids: numbers of open cases.
        actor: who asks; stands in the closed case.
        limits: what the doors accept.

    Raises:
        InvalidInputError: a number names no open case, or one whose bytes are no event.
        DatabaseUnavailableError: Postgres does not answer; nothing was done.
    """
    with database_errors(), database.begin() as connection:
        found = _open_cases(connection, ids)
        num_released = quarantine.release(connection, ids, actor=actor)
        hints = [case for case in found if case.submission_id is None and case.door not in _EVENT_DOORS]
        events = [case for case in found if case.submission_id is None and case.door in _EVENT_DOORS]
        refused = [(case.quarantine_id, f"{case.reason}: {_HINT}") for case in hints]
        still_open = _judge_again(connection, Desk(database, limits), events, actor) if events else []
    return Retried(num_released + len(events) - len(still_open), (*refused, *still_open))


def purge(database: Database, ids: Sequence[int], *, actor: str, reason: str) -> int:
    """Close cases for good and erase their bytes; who did it and why stays. Returns how many were closed.

    Raises:
        InvalidInputError: a number names no open case.
        DatabaseUnavailableError: Postgres does not answer; nothing was done.
    """
    with database_errors(), database.begin() as connection:
        _open_cases(connection, ids)
        return quarantine.close(connection, ids, resolution=f"purged by {actor}: {reason}")


def _open_cases(connection: Connection, ids: Sequence[int]) -> list[Case]:
    found = quarantine.cases(connection, ids=ids, max_rows=len(ids))
    if unknown := set(ids) - {case.quarantine_id for case in found}:
        raise InvalidInputError(f"no open case in quarantine: {', '.join(map(str, sorted(unknown)))}")
    return found


def _judge_again(
    connection: Connection, desk: Desk, cases: Sequence[Case], actor: str
) -> list[tuple[int, str]]:
    """Judge events once more; returns the cases that stay open, with their reasons as they are now."""
    letters = {
        case.quarantine_id: Letter(case.payload or b"", f"case {case.quarantine_id}") for case in cases
    }
    receipt = desk.judge(connection, "stream", list(letters.values()))
    refusals = {refusal.origin: refusal for refusal in receipt.refused}
    still_open = []
    for number, letter in letters.items():
        refusal = refusals.get(origin_of(letter.place, letter.payload))
        if refusal is None:
            quarantine.close(connection, [number], resolution=f"retried by {actor}")
        else:
            quarantine.restate(connection, number, reason=refusal.reason, detail=refusal.detail)
            still_open.append((number, f"{refusal.reason}: {refusal.detail}"))
    return still_open
