"""Pins: a person's word that two items belong together or apart, or that one is never merged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection

    from db.merges import Word


@dataclass(frozen=True, slots=True)
class Pin:
    """A person's word about one or two items."""

    first: str
    second: str
    kind: str
    set_by: str
    reason: str
    set_at: datetime


def pin(connection: Connection, first: str, second: str, kind: str, *, word: Word) -> None:
    """Pin two items together or apart, or one alone (`second` the same); an earlier pin of them is void."""
    connection.execute(
        text("""
            INSERT INTO model.merge_pin (first, second, kind, set_by, reason)
            VALUES (:first, :second, :kind, :actor, :reason)
            ON CONFLICT (first, second) DO UPDATE
            SET kind = excluded.kind, set_by = excluded.set_by, reason = excluded.reason, set_at = now()
        """),
        {
            "first": min(first, second),
            "second": max(first, second),
            "kind": kind,
            "actor": word.actor,
            "reason": word.reason,
        },
    )


def unpin(connection: Connection, first: str, second: str) -> bool:
    """Take a pin away; False where there was none."""
    found = connection.execute(
        text("DELETE FROM model.merge_pin WHERE first = :first AND second = :second RETURNING 1"),
        {"first": min(first, second), "second": max(first, second)},
    )
    return found.first() is not None


def pins(connection: Connection) -> list[Pin]:
    """All pins."""
    rows = connection.execute(
        text("SELECT first, second, kind, set_by, reason, set_at FROM model.merge_pin ORDER BY first, second")
    )
    return [Pin(**row._mapping) for row in rows]
