"""What stands in a broker's list, before Celery sees it: taken apart, judged, and written anew.

Celery's worker ends at the first element that is no JSON, and lets a sender ask for callbacks, chains and
times. So nothing of a sender's envelope is passed on but the task's name, its id and its arguments.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any
from uuid import uuid4

from scoring.errors import InvalidInputError
from workers.events import NIGHTLY_TASK, SCORE_TASK, SUBMIT_TASK, decode_work

#: 500 events of the longest kind would be more; a sender cuts those.
MAX_MESSAGE_BYTES = 32_000_000

_TASKS = (SCORE_TASK, SUBMIT_TASK, NIGHTLY_TASK)
_NO_FOLLOWERS = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


class EnvelopeError(InvalidInputError):
    """An element that is no message for us: `reason` is a word for counting."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def readmit(element: bytes, *, queue: str) -> bytes:
    """Read an element of a queue's list (Celery's message protocol 2, JSON) and write it anew.

    Args:
        element: as it stood in the list.
        queue: the list; where the message goes back to if it is not acknowledged.

    Returns:
        The same task, id and arguments in an envelope of our own.

    Raises:
        EnvelopeError: it is no such message, or not for one of our tasks.
    """
    if len(element) > MAX_MESSAGE_BYTES:
        raise EnvelopeError("too_long", f"the message has {len(element):,} bytes")
    envelope = _object(_json(element, "envelope"), "envelope")
    headers = _object(envelope.get("headers"), "headers")
    name, message_id = headers.get("task"), headers.get("id")
    if name not in _TASKS:
        raise EnvelopeError("unknown_task", f"the task is not one of {', '.join(_TASKS)}")
    if not isinstance(message_id, str) or not 0 < len(message_id) <= 200 or not message_id.isprintable():
        raise EnvelopeError("no_id", "the header `id` is not a string of at most 200 characters")
    if headers.get("eta") is not None or headers.get("expires") is not None:
        raise EnvelopeError("has_a_time", "eta, countdown and expires are not taken: send it when it is due")
    arguments = _arguments(name, _json(_body(envelope), "body"))
    return _envelope(name, message_id, arguments, queue)


def _body(envelope: dict[str, Any]) -> bytes:
    if envelope.get("content-type") != "application/json":
        raise EnvelopeError("not_json", "the content-type is not application/json")
    properties, body = _object(envelope.get("properties"), "properties"), envelope.get("body")
    if not isinstance(body, str):
        raise EnvelopeError("no_body", "the body is not a string")
    if properties.get("body_encoding") != "base64":
        return body.encode("utf-8", "replace")
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        raise EnvelopeError("not_base64", "the body is not base64, as its properties say") from None


def _arguments(name: str, body: object) -> dict[str, Any]:
    if not isinstance(body, list) or len(body) != 3 or body[0] != []:
        raise EnvelopeError("wrong_arguments", "the body is not [[], {named arguments}, {...}]")
    arguments, embedded = _object(body[1], "arguments"), body[2]
    if isinstance(embedded, dict) and any(embedded.values()):
        raise EnvelopeError("has_followers", "callbacks, chains and chords are not taken")
    if name == SCORE_TASK:
        try:
            decode_work(arguments)
        except InvalidInputError as error:
            raise EnvelopeError("invalid_work", str(error)) from error
    if name == NIGHTLY_TASK and arguments:
        raise EnvelopeError("wrong_arguments", f"{NIGHTLY_TASK} takes no arguments")
    return arguments


def _envelope(name: str, message_id: str, arguments: dict[str, Any], queue: str) -> bytes:
    body = json.dumps([[], arguments, _NO_FOLLOWERS]).encode()
    return json.dumps(
        {
            "body": base64.b64encode(body).decode(),
            "content-type": "application/json",
            "content-encoding": "utf-8",
            "headers": {
                "lang": "py",
                "task": name,
                "id": message_id,
                "root_id": message_id,
                "parent_id": None,
                "group": None,
                "retries": 0,
                "eta": None,
                "expires": None,
                "timelimit": [None, None],
                "argsrepr": "",
                "kwargsrepr": "",
                "ignore_result": True,
            },
            "properties": {
                "correlation_id": message_id,
                "delivery_mode": 2,
                # The nameless exchange: a message goes back to its list without any binding in Redis.
                "delivery_info": {"exchange": "", "routing_key": queue},
                "priority": 0,
                "body_encoding": "base64",
                # Its own: two copies of one message must not share the record of being unacknowledged.
                "delivery_tag": str(uuid4()),
            },
        }
    ).encode()


def _json(raw: bytes, what: str) -> object:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        raise EnvelopeError("not_json", f"the {what} is not JSON in UTF-8") from None


def _object(value: object, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise EnvelopeError(f"no_{what}", f"the {what} is not a JSON object")
    return value
