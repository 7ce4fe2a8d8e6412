"""Redis keys of ours that hold something of another kind: put under another name, so that work goes on.

Nothing of scorefold makes such a key; whoever may write to Redis can. It would stop every consumer for good.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import redis

from db import quarantine
from db.quarantine import Refusal
from scoring.errors import BrokerUnavailableError
from workers.telemetry import get_logger

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Engine as Database

log = get_logger("strays")


@dataclass(frozen=True, slots=True)
class Stray:
    """A key that held the wrong kind of value, and the name under which the value stands now."""

    key: str
    kind: str
    kept_as: str


def put_aside(client: redis.Redis, kinds: Mapping[str, str]) -> list[Stray]:
    """Rename every key whose kind is not the wanted one.

    Args:
        client: the broker.
        kinds: wanted kind by key, in Redis' words: list, stream, hash, zset, string.

    Raises:
        BrokerUnavailableError: the broker does not answer.
    """
    try:
        with client.pipeline(transaction=False) as pipe:
            for key in kinds:
                pipe.type(key)
            found = [kind.decode() for kind in pipe.execute()]
        strays = [
            Stray(key, kind, f"{key}.set-aside.{time.time_ns()}")
            for (key, wanted), kind in zip(kinds.items(), found, strict=True)
            if kind not in {wanted, "none"}
        ]
        return [stray for stray in strays if _renamed(client, stray)]
    except (redis.RedisError, OSError) as error:
        raise BrokerUnavailableError(f"Redis does not answer: {type(error).__name__}") from error


def clear_way(database: Database, client: redis.Redis, kinds: Mapping[str, str]) -> int:
    """Put strays aside and keep a case of quarantine for each; returns how many there were.

    Raises:
        BrokerUnavailableError: the broker does not answer.
    """
    strays = put_aside(client, kinds)
    for stray in strays:
        log.warning("key_set_aside", key=stray.key, kind=stray.kind, kept_as=stray.kept_as)
    if strays:
        with database.begin() as connection:
            quarantine.keep(connection, [_refusal(stray, kinds[stray.key]) for stray in strays])
    return len(strays)


def _renamed(client: redis.Redis, stray: Stray) -> bool:
    try:
        return bool(client.renamenx(stray.key, stray.kept_as))
    except redis.ResponseError:
        return False  # another worker was faster


def _refusal(stray: Stray, wanted: str) -> Refusal:
    detail = f"the key {stray.key} held a {stray.kind}, not a {wanted}; Redis keeps it as {stray.kept_as}"
    return Refusal("broker", "wrong_key_type", detail, b"")
