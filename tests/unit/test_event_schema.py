"""The event as the documentation shows it is the event as the code takes it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from workers.events import EventError, SubmissionEvent, decode_event

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "events.md"
EVENT = {"version": 1, "source": "lms", "response_id": "r1", "item_id": "ice", "text": "it melts"}


def decoded(**changes: object) -> SubmissionEvent:
    return decode_event(json.dumps(EVENT | changes).encode(), max_bytes=10_000)


def reason(payload: bytes) -> str:
    with pytest.raises(EventError) as caught:
        decode_event(payload, max_bytes=10_000)
    assert "melts" not in str(caught.value)
    return caught.value.reason


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)


def test_the_document_shows_the_schema_as_generated() -> None:
    assert json.loads(blocks("json")[0]) == SubmissionEvent.model_json_schema()


def test_every_example_in_the_document_is_taken() -> None:
    examples = [json.loads(block) for block in blocks("json")][1:]
    assert examples
    for example in examples:
        assert decode_event(json.dumps(example).encode(), max_bytes=10_000).version == 1


def test_defaults_are_filled_in() -> None:
    event = decoded()
    assert (event.attempt, event.student_id, event.submitted_at) == (1, None, None)


@pytest.mark.parametrize("version", [2, 0, "1", None, True, 1.0, [1]])
def test_an_unknown_version_is_refused_by_that_name(version: object) -> None:
    assert reason(json.dumps(EVENT | {"version": version}).encode()) == "unknown_version"


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b"", "not_json"),
        (b"\xff\xfe", "not_json"),
        (b"{", "not_json"),
        (b"[" * 100_000, "event_too_long"),
        (b"[" * 9_000, "not_json"),
        (b"[1]", "not_an_object"),
        (b'{"version": 1}', "invalid_event"),
        (b'{"version": ' + b"9" * 5000 + b"}", "not_json"),
    ],
)
def test_bytes_that_are_no_event_are_refused_with_a_reason(payload: bytes, expected: str) -> None:
    assert reason(payload) == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"attempt": 0},
        {"attempt": 2**31},
        {"attempt": "1"},
        {"attempt": 1.5},
        {"text": None},
        {"text": 5},
        {"response_id": ""},
        {"response_id": "x" * 201},
        {"source": None},
        {"student": "typo"},
    ],
)
def test_a_field_that_is_wrong_or_unknown_refuses_the_event(changes: dict[str, object]) -> None:
    assert reason(json.dumps(EVENT | changes).encode()) == "invalid_event"


def test_half_an_emoji_does_not_refuse_the_answer() -> None:
    assert decoded(text="it melts \ud83d").text == "it melts ?"
