"""What travels through the broker: numbers of submissions, never their text."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from scoring.errors import InvalidInputError

#: Ids in one message at most; a message stays under a few kilobytes.
MAX_IDS = 512

#: The Celery task that a worker offers.
SCORE_TASK = "scorefold.score"
NIGHTLY_TASK = "scorefold.nightly"


class WorkMessage(BaseModel):
    """A hint that these submissions wait; it can be lost, repeated or made again without harm."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    version: Literal[1] = 1
    shard: Annotated[int, Field(ge=0)]
    ids: Annotated[list[Annotated[int, Field(ge=1, lt=2**63)]], Field(min_length=1, max_length=MAX_IDS)]


def decode_work(payload: object) -> WorkMessage:
    """Read a message.

    Raises:
        InvalidInputError: it has not the documented form.
    """
    try:
        return WorkMessage.model_validate(payload)
    except ValidationError as error:
        fault = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in fault["loc"]) or "message"
        raise InvalidInputError(f"work message: {where}: {fault['msg']}") from error
