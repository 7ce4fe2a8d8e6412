"""Where the aliases point: champion, shadow and previous of each item, every move told and reversible.

A move is one transaction that first takes the epoch's row, so that moves happen one after the other, and
leaves a row in `score.audit` with the aliases before and after; `rollback` puts back what that row says.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import JSONB

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sqlalchemy import Connection

#: Aliases of one item -> scorer numbers.
Aliases = dict[str, int]

PROMOTE, SHADOW, ROLLBACK = "promote", "shadow", "rollback"


class AliasError(Exception):
    """An alias cannot be moved as asked; the message says why."""


@dataclass(frozen=True, slots=True)
class Move:
    """One move in progress: the epoch it makes, and what it has to say beside who and why."""

    epoch: int
    before: Mapping[str, Aliases]
    told: dict[str, Any] = field(default_factory=dict)


def hold(connection: Connection) -> None:
    """Let nobody move an alias for the rest of the transaction: what is read from here on stays so."""
    connection.execute(text("SELECT 1 FROM model.epoch FOR UPDATE"))


def advance(connection: Connection) -> int:
    """Begin a new epoch, which workers follow; nobody else moves an alias for the rest of the transaction."""
    statement = text("UPDATE model.epoch SET epoch = epoch + 1 RETURNING epoch")
    return int(connection.execute(statement).scalar_one())


@contextmanager
def moving(
    connection: Connection, item_ids: Sequence[str], *, action: str, actor: str, reason: str
) -> Iterator[Move]:
    """Move aliases inside the block; each item whose aliases came out otherwise gets a row of audit."""
    move = Move(advance(connection), aliases_of(connection, item_ids))
    yield move
    after = aliases_of(connection, item_ids)
    rows = [
        {
            "actor": actor,
            "action": action,
            "subject": item_id,
            "detail": {
                "reason": reason,
                "epoch": move.epoch,
                "before": move.before[item_id],
                "after": after[item_id],
                **move.told,
            },
        }
        for item_id in dict.fromkeys(item_ids)
        if move.before[item_id] != after[item_id]
    ]
    if rows:
        statement = text("""
            INSERT INTO score.audit (actor, action, subject, detail)
            VALUES (:actor, :action, :subject, :detail)
        """).bindparams(bindparam("detail", type_=JSONB))
        connection.execute(statement, rows)


def aliases_of(connection: Connection, item_ids: Sequence[str]) -> dict[str, Aliases]:
    """The aliases of each of these items."""
    rows = connection.execute(
        text("""
            SELECT item_id, alias, scorer_id FROM model.alias
            WHERE item_id = ANY(CAST(:ids AS text[])) ORDER BY item_id, alias
        """),
        {"ids": list(item_ids)},
    )
    found: dict[str, Aliases] = {item_id: {} for item_id in item_ids}
    for row in rows:
        found[row.item_id][row.alias] = row.scorer_id
    return found


def point(connection: Connection, item_id: str, aliases: Aliases, *, actor: str) -> None:
    """Make an item's aliases exactly these; call it inside `moving`."""
    connection.execute(
        text("DELETE FROM model.alias WHERE item_id = :item_id AND alias <> ALL(CAST(:kept AS text[]))"),
        {"item_id": item_id, "kept": list(aliases)},
    )
    if not aliases:
        return
    connection.execute(
        text("""
            INSERT INTO model.alias AS a (item_id, alias, scorer_id, set_by)
            VALUES (:item_id, :alias, :scorer_id, :actor)
            ON CONFLICT (item_id, alias)
            DO UPDATE SET scorer_id = excluded.scorer_id, set_by = excluded.set_by, set_at = now()
            WHERE a.scorer_id <> excluded.scorer_id
        """),
        [
            {"item_id": item_id, "alias": alias, "scorer_id": scorer_id, "actor": actor}
            for alias, scorer_id in aliases.items()
        ],
    )


def promote(connection: Connection, scorer_ids: Sequence[int], *, actor: str, reason: str) -> int:
    """Make scorers the champions of their items; the champions before become `previous`.

    A shadow that is promoted is no shadow any more; another one stays.

    Returns:
        The new epoch. All items move in the caller's one transaction.

    Raises:
        AliasError: no such scorer, or two of one item.
    """
    items = _items_of(connection, scorer_ids)
    with moving(connection, list(items), action=PROMOTE, actor=actor, reason=reason) as move:
        for item_id, scorer_id in items.items():
            aliases = dict(move.before[item_id])
            champion = aliases.get("champion")
            if champion == scorer_id:
                continue
            if champion is not None:
                aliases["previous"] = champion
            if aliases.get("shadow") == scorer_id:
                del aliases["shadow"]
            point(connection, item_id, {**aliases, "champion": scorer_id}, actor=actor)
    return move.epoch


def set_shadow(connection: Connection, scorer_id: int, *, actor: str, reason: str) -> int:
    """Let a scorer score beside the champion of its item, unseen by graders; returns the new epoch."""
    ((item_id, _),) = _items_of(connection, [scorer_id]).items()
    with moving(connection, [item_id], action=SHADOW, actor=actor, reason=reason) as move:
        if move.before[item_id].get("champion") != scorer_id:
            point(connection, item_id, {**move.before[item_id], "shadow": scorer_id}, actor=actor)
    return move.epoch


def rollback(
    connection: Connection, item_ids: Sequence[str], *, action: str = PROMOTE, actor: str, reason: str
) -> int:
    """Undo each item's newest move of this kind that has not been undone; its aliases stand as before it.

    What has moved since then and had no part in that move stays: after a promotion is undone, a shadow that
    was set later remains.

    Returns:
        The new epoch.

    Raises:
        AliasError: an item has no such move, or a later one stands in the way.
    """
    with moving(connection, item_ids, action=ROLLBACK, actor=actor, reason=reason) as move:
        undone = []
        for item_id in item_ids:
            audit_id, before, after = _newest_move(connection, item_id, action)
            undone.append(audit_id)
            aliases = dict(move.before[item_id])
            for alias in before.keys() | after.keys():
                if before.get(alias) == after.get(alias) or aliases.get(alias) != after.get(alias):
                    continue
                aliases.pop(alias, None)
                if alias in before:
                    aliases[alias] = before[alias]
            if aliases == move.before[item_id]:
                raise AliasError(f"item {item_id}: its aliases have moved since its last {action}")
            point(connection, item_id, aliases, actor=actor)
        move.told["undoes"] = undone
    return move.epoch


def moves(connection: Connection, item_id: str, *, limit: int = 20) -> list[dict[str, Any]]:
    """The newest moves of an item's aliases: who, what, when, why, before and after."""
    rows = connection.execute(
        text("""
            SELECT audit_id, at, actor, action, detail FROM score.audit
            WHERE subject = :item_id AND action = ANY(CAST(:actions AS text[]))
            ORDER BY audit_id DESC LIMIT :limit
        """),
        {"item_id": item_id, "actions": [PROMOTE, SHADOW, ROLLBACK], "limit": limit},
    )
    return [dict(row._mapping) for row in rows]


def _items_of(connection: Connection, scorer_ids: Sequence[int]) -> dict[str, int]:
    rows = connection.execute(
        text("""
            SELECT item_id, scorer_id FROM model.scorer
            WHERE scorer_id = ANY(CAST(:ids AS bigint[])) ORDER BY item_id, scorer_id
        """),
        {"ids": list(scorer_ids)},
    ).all()
    unknown = set(scorer_ids) - {row.scorer_id for row in rows}
    if unknown:
        raise AliasError(f"scorer {min(unknown)}: there is none with this number")
    items = {row.item_id: row.scorer_id for row in rows}
    if len(items) < len(rows):
        raise AliasError("an item can have one champion: two of these scorers are of the same item")
    return items


def _newest_move(connection: Connection, item_id: str, action: str) -> tuple[int, Aliases, Aliases]:
    row = connection.execute(
        text("""
            SELECT audit_id, detail FROM score.audit a
            WHERE subject = :item_id AND action = :action AND detail ? 'before'
              AND NOT EXISTS (SELECT FROM score.audit u WHERE u.action = :rollback
                              AND u.detail->'undoes' @> to_jsonb(a.audit_id))
            ORDER BY audit_id DESC LIMIT 1
        """),
        {"item_id": item_id, "action": action, "rollback": ROLLBACK},
    ).one_or_none()
    if row is None:
        raise AliasError(f"item {item_id}: no {action} is left to be rolled back")
    return row.audit_id, row.detail["before"], row.detail["after"]
