"""What travels through the broker: events as other systems send them, and our own hints.

An event carries one answer, once, to the ledger; a hint carries numbers of submissions, never their text.
"""

from __future__ import annotations

import json
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from scoring.errors import InvalidInputError

#: Ids in one message at most; a message stays under a few kilobytes.
MAX_IDS = 512

#: The Celery task that a worker offers.
SCORE_TASK = "scorefold.score"
NIGHTLY_TASK = "scorefold.nightly"
#: The task door: any Celery producer may send it, by name.
SUBMIT_TASK = "scorefold.submit"

#: Versions of the event that this code reads.
EVENT_VERSIONS = (1,)
#: Events in one message of the task door at most.
MAX_EVENTS = 500

Identifier = Annotated[str, Field(min_length=1, max_length=200)]


class EventError(InvalidInputError):
    """An event that cannot be read: `reason` is a word for counting; the message never quotes the answer."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class SubmissionEvent(BaseModel):
    """One answer to one item, as any system may send it; (source, response_id, attempt) is its key."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, title="scorefold submission event")

    version: Annotated[Literal[1], Field(description="of this schema")]
    source: Annotated[Identifier, Field(description="the sending system; part of the key")]
    response_id: Annotated[Identifier, Field(description="the response's id in the sending system")]
    attempt: Annotated[int, Field(ge=1, lt=2**31, description="which attempt of the student")] = 1
    item_id: Annotated[Identifier, Field(description="the item that is answered; it must have been loaded")]
    text: Annotated[str, Field(description="the answer as typed; blank is an empty string")]
    student_id: Annotated[
        Identifier | None, Field(description="the student's id; kept apart from the answer")
    ] = None
    submitted_at: Annotated[
        str | None,
        Field(
            description="ISO 8601; without a zone it is UTC", max_length=40, examples=["2026-03-01T08:30:00Z"]
        ),
    ] = None

    @field_validator("text", mode="before")
    @classmethod
    def _without_lone_surrogates(cls, value: object) -> object:
        # Half an emoji, as software cuts it: the file door takes it as well.
        return value.encode("utf-8", "replace").decode("utf-8") if isinstance(value, str) else value


class WorkMessage(BaseModel):
    """A hint that these submissions wait; it can be lost, repeated or made again without harm."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    version: Literal[1] = 1
    shard: Annotated[int, Field(ge=0)]
    ids: Annotated[list[Annotated[int, Field(ge=1, lt=2**63)]], Field(min_length=1, max_length=MAX_IDS)]


def decode_event(payload: bytes, *, max_bytes: int) -> SubmissionEvent:
    """Read an event from its JSON.

    Raises:
        EventError: it has not the documented form, or a version that this code does not know.
    """
    if len(payload) > max_bytes:
        raise EventError("event_too_long", f"the event has {len(payload):,} bytes, {max_bytes:,} are allowed")
    try:
        found = json.loads(payload)
    except (ValueError, RecursionError):
        raise EventError("not_json", "the event is not JSON in UTF-8") from None  # theirs holds the text
    if not isinstance(found, dict):
        raise EventError("not_an_object", "the event is not a JSON object")
    version = found.get("version")
    if type(version) is not int or version not in EVENT_VERSIONS:
        known = ", ".join(map(str, EVENT_VERSIONS))
        raise EventError("unknown_version", f"the event's version is not one of: {known}")
    try:
        return SubmissionEvent.model_validate(found)
    except ValidationError as error:
        where, why = _fault(error)
        raise EventError("invalid_event", f"{where or 'event'}: {why}") from None


def decode_work(payload: object) -> WorkMessage:
    """Read a message.

    Raises:
        InvalidInputError: it has not the documented form.
    """
    try:
        return WorkMessage.model_validate(payload)
    except ValidationError as error:
        where, why = _fault(error)
        raise InvalidInputError(f"work message: {where or 'message'}: {why}") from None


def _fault(error: ValidationError) -> tuple[str, str]:
    # Never the input, and no chained error either: both quote the answer.
    fault = error.errors(include_input=False, include_url=False, include_context=False)[0]
    return ".".join(str(part) for part in fault["loc"])[:80], fault["msg"]
