"""What the gate lets through to Celery is written by us, whatever came in."""

from __future__ import annotations

import base64
import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kombu.transport.virtual import Message

from workers.doors.envelope import EnvelopeError, readmit
from workers.events import NIGHTLY_TASK, SCORE_TASK, SUBMIT_TASK

WORK = {"version": 1, "shard": 0, "ids": [1, 2, 3]}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def message(
    task: Any = SCORE_TASK, arguments: Any = WORK, *, embedded: Any = None, **headers: Any
) -> dict[str, Any]:
    body = json.dumps([[], arguments, embedded or {}]).encode()
    return {
        "body": base64.b64encode(body).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"task": task, "id": "m1", **headers},
        "properties": {"body_encoding": "base64", "delivery_tag": "their own"},
    }


def admitted(envelope: Any) -> dict[str, Any]:
    return json.loads(readmit(json.dumps(envelope).encode(), queue="q"))


def refusal(element: bytes) -> str:
    with pytest.raises(EnvelopeError) as caught:
        readmit(element, queue="q")
    return caught.value.reason


def body_of(envelope: dict[str, Any]) -> Any:
    return json.loads(base64.b64decode(envelope["body"]))


def test_a_message_keeps_its_task_its_id_and_its_arguments_and_nothing_else() -> None:
    dirty = message(retries=99, timelimit="soon", stamps={"x": 1}, origin="elsewhere", callbacks=[1])
    clean = admitted(dirty)
    assert (clean["headers"]["task"], clean["headers"]["id"]) == (SCORE_TASK, "m1")
    assert body_of(clean)[1] == WORK
    assert clean["headers"]["retries"] == 0
    assert clean["headers"]["timelimit"] == [None, None]
    assert not {"stamps", "callbacks"} & clean["headers"].keys()
    assert clean["properties"]["delivery_info"] == {"exchange": "", "routing_key": "q"}


def test_two_copies_of_one_message_get_tags_of_their_own() -> None:
    tags = {admitted(message())["properties"]["delivery_tag"] for _ in range(2)}
    assert len(tags) == 2
    assert "their own" not in tags


def test_what_was_let_through_is_let_through_again() -> None:
    once = admitted(message())
    assert body_of(admitted(once)) == body_of(once)


@pytest.mark.parametrize(
    ("envelope", "reason"),
    [
        (message("os.system"), "unknown_task"),
        (message(None), "unknown_task"),
        (message(id=None), "no_id"),
        (message(id="a\nb"), "no_id"),
        (message(eta="2030-01-01T00:00:00"), "has_a_time"),
        (message(expires=10), "has_a_time"),
        (message(embedded={"callbacks": [{"task": SCORE_TASK}]}), "has_followers"),
        (message(embedded={"chain": [1]}), "has_followers"),
        (message(arguments={"ids": "all"}), "invalid_work"),
        (message(arguments=[1]), "no_arguments"),
        (message(NIGHTLY_TASK, {"period": "x"}), "wrong_arguments"),
        (message() | {"content-type": "application/x-python-serialize"}, "not_json"),
        (message() | {"body": "###"}, "not_base64"),
        (message() | {"body": None}, "no_body"),
        (message() | {"body": base64.b64encode(b"{").decode()}, "not_json"),
        (message() | {"properties": None}, "no_properties"),
        (message() | {"headers": []}, "no_headers"),
        ({}, "no_headers"),
        ([], "no_envelope"),
    ],
)
def test_what_is_no_message_of_ours_is_refused_with_a_reason(envelope: Any, reason: str) -> None:
    assert refusal(json.dumps(envelope).encode()) == reason


@pytest.mark.parametrize("element", [b"", b"\xff\x00", b"{", b"[" * 200_000, b"nul", b"9" * 10_000])
def test_bytes_that_are_no_json_are_refused(element: bytes) -> None:
    assert refusal(element) in {"not_json", "no_envelope"}


def as_kombu_sees_it(element: bytes) -> Message:
    """kombu's own reading of what the gate let through; an error here would end a worker."""

    class Channel:
        def decode_body(self, body: str, encoding: str) -> bytes:
            assert encoding == "base64"
            return base64.b64decode(body)

        def message_to_python(self, raw: Message) -> Message:
            return raw

    return Message(json.loads(element), channel=Channel(), accept={"application/json"})


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=300) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_refused_or_readable(element: bytes) -> None:
    with contextlib.suppress(EnvelopeError):
        as_kombu_sees_it(readmit(element, queue="q"))


@settings(max_examples=500, deadline=None)
@given(
    st.sampled_from([SCORE_TASK, SUBMIT_TASK, NIGHTLY_TASK]),
    st.just(WORK) | JSON,
    st.dictionaries(
        st.sampled_from(["id", "eta", "expires", "retries", "timelimit", "group", "lang", "shadow", "task"]),
        JSON,
    ),
    st.dictionaries(
        st.sampled_from(["body", "properties", "content-type", "content-encoding", "x"]), JSON, max_size=2
    ),
)
def test_a_message_with_any_field_bent_is_refused_or_readable(
    task: str, arguments: Any, headers: dict[str, Any], fields: dict[str, Any]
) -> None:
    bent = message(task, arguments)
    bent["headers"] |= headers
    element = json.dumps(bent | fields).encode()
    with contextlib.suppress(EnvelopeError):
        seen = as_kombu_sees_it(readmit(element, queue="q"))
        args, kwargs, embedded = seen.decode()
        assert args == []
        assert isinstance(kwargs, dict)
        assert not any(embedded.values())
        assert seen.headers["eta"] is None
