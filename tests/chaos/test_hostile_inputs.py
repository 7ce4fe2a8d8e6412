"""A hundred thousand hostile inputs at rest: every one is taken or refused with a reason, none escapes."""

from __future__ import annotations

import base64
import json
import random
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from db.judging import IncomingRow, RejectedRow
from scoring.errors import InvalidInputError
from workers.doors.envelope import EnvelopeError, readmit
from workers.events import EventError, decode_event
from workers.importers import answers, files

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.long

NUM_EVENTS = 50_000
NUM_ELEMENTS = 45_000
#: Files take longer; each holds several records.
NUM_FILES = 5_000

EVENT = json.dumps(
    {
        "version": 1,
        "source": "lms",
        "response_id": "r1",
        "item_id": "ice",
        "text": "es schmilzt \U0001f9ca",
        "attempt": 2,
    }
).encode()
BODY = json.dumps([[], {"version": 1, "shard": 0, "ids": [1, 2]}, {}]).encode()
ELEMENT = json.dumps(
    {
        "body": base64.b64encode(BODY).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"task": "scorefold.score", "id": "m1"},
        "properties": {"body_encoding": "base64", "delivery_tag": "t"},
    }
).encode()
CSV = b'response_id,item_id,text,attempt\nr1,ice,"it melts, ""truly""",1\nr2,ice,because,2\nr3,sun,,1\n'
JSON_LINES = (
    EVENT.replace(b'"version": 1, ', b"") + b"\n" + b'{"response_id": "r2", "item_id": "ice", "text": ""}\n'
)

_BITS = (
    *(b'"', b"{", b"}", b"[", b"]", b",", b":", b"\\", b"\n", b"\r", b"\x00", b"\xff", b"\xef\xbb\xbf"),
    *(b"\\u0000", b"\\ud83d", b"1e999", b"-1", b"9" * 40, b"NaN", b"null", b"true"),
    *(b'"version": 3', b"=cmd|' /C calc'!A0"),
)


def hurt(original: bytes, dice: random.Random) -> bytes:
    """A few places changed, cut, doubled or filled with what parsers trip over."""
    found = bytearray(original)
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(len(found) + 1)
        end = min(len(found), at + dice.randint(0, 12))
        kind = dice.randrange(5)
        if kind == 0:
            found[at:end] = dice.randbytes(end - at)
        elif kind == 1:
            del found[at:end]
        elif kind == 2:
            found[at:at] = dice.choice(_BITS)
        elif kind == 3:
            found[at:at] = found[at:end] * dice.randint(1, 3)
        else:
            del found[at:]
    return bytes(found)


def outcomes(make: Callable[[bytes], str], original: bytes, num_inputs: int) -> Counter[str]:
    dice = random.Random(f"{num_inputs} {original!r}")
    return Counter(make(hurt(original, dice)) for _ in range(num_inputs))


def test_events() -> None:
    def take(payload: bytes) -> str:
        try:
            event = decode_event(payload, max_bytes=100_000)
        except EventError as error:
            return error.reason
        (row,) = answers.submissions([files.Record(1, event.model_dump())], max_text_chars=1000)
        return "taken" if isinstance(row, IncomingRow) else row.reason

    found = outcomes(take, EVENT, NUM_EVENTS)
    assert found.total() == NUM_EVENTS
    assert "" not in found
    assert found["taken"] > 1000
    assert found.keys() >= {"taken", "not_json", "invalid_event", "unknown_version"}


def test_elements_of_the_brokers_lists() -> None:
    def take(element: bytes) -> str:
        try:
            passed = readmit(element, queue="q")
        except EnvelopeError as error:
            return error.reason
        args, kwargs, _ = json.loads(base64.b64decode(json.loads(passed)["body"]))
        assert args == []
        assert kwargs.keys() <= {"version", "shard", "ids"}
        return "taken"

    found = outcomes(take, ELEMENT, NUM_ELEMENTS)
    assert found.total() == NUM_ELEMENTS
    assert "" not in found
    assert found["taken"] > 1000
    assert found.keys() >= {"taken", "not_json", "not_base64", "unknown_task", "no_headers", "invalid_work"}


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "hurt"

    def take(content: bytes) -> str:
        path.write_bytes(content)
        try:
            file = files.inspect(path)
            records = files.read_records(file, required=answers.SUBMISSION_FIELDS, max_line_bytes=10_000)
            rows = list(answers.submissions(records, max_text_chars=1000))
        except InvalidInputError as error:
            return "refused as a whole" if str(path) in str(error) else "refused without a place"
        assert all(isinstance(row, IncomingRow | RejectedRow) for row in rows)
        assert all(row.reason for row in rows if isinstance(row, RejectedRow))
        return "taken" if any(isinstance(row, IncomingRow) for row in rows) else "all rows refused"

    found = outcomes(take, CSV, NUM_FILES // 2) + outcomes(take, JSON_LINES, NUM_FILES // 2)
    assert found.total() == NUM_FILES
    assert min(found["taken"], found["refused as a whole"]) > 100
    assert found["refused without a place"] == 0
