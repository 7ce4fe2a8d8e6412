"""Whose the bytes in quarantine are, and their erasure: they may hold an answer that the ledger never took.

JSON is read: events, lists of them, and the body of a Celery message. Other bytes are nobody's for sure, so
they are named to a person and never erased by guess; a retry refuses them whatever they say.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import Connection

#: A case may hold a megabyte.
_CASES_AT_ONCE = 50

#: Fields of an event: an object with one of them speaks of an answer.
_OF_AN_EVENT = ("response_id", "item_id", "text")

_KEPT = """
SELECT quarantine_id, payload FROM ingest.quarantine
WHERE quarantine_id > :after AND octet_length(payload) > 0
  AND (CAST(:keep_days AS int) IS NULL OR quarantined_at < now() - make_interval(days => :keep_days))
ORDER BY quarantine_id LIMIT :max_rows
"""

# The detail goes too: it may quote the sender's id of the answer.
_ERASE = """
UPDATE ingest.quarantine
SET payload = ''::bytea, detail = '', resolved_at = coalesce(resolved_at, now()),
    resolution = coalesce(resolution, :resolution)
WHERE quarantine_id = ANY(:ids)
"""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A student as bytes may name one."""

    #: Source and id; the source None means whichever.
    students: frozenset[tuple[str | None, str]]
    #: Source, response and attempt of the student's answers: an event need not say who wrote it.
    answers: frozenset[tuple[str, str, int]]


def cases_of_student(connection: Connection, wanted: Wanted) -> tuple[list[int], list[int]]:
    """Open and closed cases with bytes that name a student.

    Returns:
        The cases that are the student's, and those in which the id only stands as a word.
    """
    theirs, perhaps = [], []
    for number, payload in _kept(connection, keep_days=None):
        events = _events(payload)
        if any(_is_of(event, wanted) for event in events):
            theirs.append(number)
        elif not _all_signed(events) and _mentions(payload, wanted):
            perhaps.append(number)
    return theirs, perhaps


def cases_of_source(connection: Connection, source: str, *, keep_days: int) -> list[int]:
    """Cases with bytes of a source that came in more than `keep_days` days ago."""
    return [
        number
        for number, payload in _kept(connection, keep_days=keep_days)
        if any(_word(event.get("source")) == source for event in _events(payload))
    ]


def erase(connection: Connection, ids: Sequence[int], *, resolution: str) -> None:
    """Erase the bytes of cases, and close those that are open: a retry finds nothing to bring back."""
    if ids:
        connection.execute(text(_ERASE), {"ids": list(ids), "resolution": resolution})


def _kept(connection: Connection, *, keep_days: int | None) -> Iterator[tuple[int, bytes]]:
    after = 0
    while True:
        scope = {"after": after, "keep_days": keep_days, "max_rows": _CASES_AT_ONCE}
        found = connection.execute(text(_KEPT), scope).all()
        for row in found:
            yield row.quarantine_id, bytes(row.payload)
        if len(found) < _CASES_AT_ONCE:
            return
        after = found[-1].quarantine_id


def _events(payload: bytes) -> list[dict[str, Any]]:
    """All objects in JSON, however deep, that speak of an answer or a student; none in other bytes."""
    found, to_see = [], [_json(payload)]
    while to_see:
        value = to_see.pop()
        if isinstance(value, list):
            to_see += value
        elif isinstance(value, dict):
            to_see += value.values()
            to_see += [_json(body) for body in _bodies(value)]
            if "student_id" in value or any(name in value for name in _OF_AN_EVENT):
                found.append(value)
    return found


def _bodies(value: dict[str, Any]) -> list[bytes]:
    """What a Celery message carries, in base64 or plain."""
    body = value.get("body")
    if not isinstance(body, str):
        return []
    try:
        return [base64.b64decode(body, validate=True)]
    except (binascii.Error, ValueError):
        return [body.encode("utf-8", "replace")]


def _json(payload: bytes) -> object:
    try:
        return json.loads(payload)
    except (ValueError, RecursionError):
        return None


def _is_of(event: dict[str, Any], wanted: Wanted) -> bool:
    source, student = _word(event.get("source")), _word(event.get("student_id"))
    # Without a source it could be anybody's of that id; better erased than kept.
    if student and any(
        student == name and (not source or of is None or source == of) for of, name in wanted.students
    ):
        return True
    attempt = event.get("attempt", 1)
    return isinstance(attempt, int) and (source, _word(event.get("response_id")), attempt) in wanted.answers


def _all_signed(events: Sequence[dict[str, Any]]) -> bool:
    """Whether every event says whose it is, so that the id as a word means nothing."""
    return bool(events) and all(_word(event.get("student_id")) for event in events)


def _mentions(payload: bytes, wanted: Wanted) -> bool:
    value = _json(payload)
    parts = [payload, *(_bodies(value) if isinstance(value, dict) else ())]
    forms = {form for _, name in wanted.students for form in (name, json.dumps(name)[1:-1])}
    word = re.compile("|".join(rf"(?<!\w){re.escape(form)}(?!\w)" for form in sorted(forms)))
    return any(word.search(part.decode("utf-8", "replace")) for part in parts)


def _word(value: object) -> str:
    """An id as the doors read it: a number counts as its digits, blanks around it do not count."""
    is_number = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**30
    return str(value).strip() if is_number or isinstance(value, str) else ""
