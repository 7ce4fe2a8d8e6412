"""A proposal's way: proposed, shadow, approved, promoted, rolled back, or rejected, or superseded.

A step locks its proposal and the items' present champions, so that nothing is promoted that was not measured.
Aliases and state move in the caller's one transaction, and an event tells who, when and why.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from db import aliases
from db.merges import Word, tell
from db.models.merge import PENDING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection

#: Where a proposal may go from a state; "superseded" and "rejected" end it.
_STEPS: dict[str, tuple[str, ...]] = {
    "shadow": ("proposed",),
    "approved": ("proposed", "shadow"),
    "promoted": ("approved",),
    "rolled_back": ("promoted",),
    "rejected": ("proposed", "shadow", "approved", "rolled_back"),
    "superseded": PENDING,
}


class MergeError(Exception):
    """A proposal cannot take this step; the message says why."""


@dataclass(frozen=True, slots=True)
class Member:
    """One item of a proposal that is taking a step, and who is its champion and its shadow now."""

    item_id: str
    scorer_before: int
    scorer_after: int
    champion: int | None
    shadow: int | None


@dataclass(frozen=True, slots=True)
class Step:
    """A proposal held for the rest of the transaction."""

    merge_proposal_id: int
    state: str
    kind: str
    items: tuple[str, ...]
    verdict: str
    members: tuple[Member, ...]

    @property
    def scorers_after(self) -> list[int]:
        """The scorers that would come."""
        return [one.scorer_after for one in self.members]


def hold(connection: Connection, merge_proposal_id: int) -> Step:
    """Keep a proposal as it stands for the rest of the transaction.

    Aliases are held first, as by every move of one: what is champion now stays so.

    Raises:
        MergeError: there is none with this number.
    """
    aliases.hold(connection)
    row = connection.execute(
        text("""
            SELECT merge_proposal_id, state, kind, items, verdict FROM model.merge_proposal
            WHERE merge_proposal_id = :number FOR UPDATE
        """),
        {"number": merge_proposal_id},
    ).one_or_none()
    if row is None:
        raise MergeError(f"proposal {merge_proposal_id}: there is none; `scorefold merges list` shows them")
    members = connection.execute(
        text("""
            SELECT m.item_id, m.scorer_before, m.scorer_after, a.scorer_id AS champion,
                   s.scorer_id AS shadow
            FROM model.merge_member m
            LEFT JOIN model.alias a ON a.item_id = m.item_id AND a.alias = 'champion'
            LEFT JOIN model.alias s ON s.item_id = m.item_id AND s.alias = 'shadow'
            WHERE m.merge_proposal_id = :number ORDER BY m.item_id
        """),
        {"number": merge_proposal_id},
    )
    return Step(
        merge_proposal_id=row.merge_proposal_id,
        state=row.state,
        kind=row.kind,
        items=tuple(row.items),
        verdict=row.verdict,
        members=tuple(Member(**one._mapping) for one in members),
    )


def step(connection: Connection, held: Step, state: str, *, word: Word) -> Step:
    """Bring a held proposal to its next state and tell who did it; moves no alias.

    Raises:
        MergeError: it cannot come there from where it is.
    """
    if held.state not in _STEPS[state]:
        raise MergeError(
            f"proposal {held.merge_proposal_id} is {held.state}; only one that is"
            f" {' or '.join(_STEPS[state])} can become {state}"
        )
    connection.execute(
        text("""
            UPDATE model.merge_proposal SET state = :state, changed_at = now()
            WHERE merge_proposal_id = :number
        """),
        {"number": held.merge_proposal_id, "state": state},
    )
    tell(connection, held.merge_proposal_id, state, word)
    return Step(held.merge_proposal_id, state, held.kind, held.items, held.verdict, held.members)


def check_shadowed(held: Step) -> None:
    """Refuse a proposal in shadow one of whose scorers is its item's shadow no more.

    Raises:
        MergeError: names the first of them.
    """
    for one in held.members if held.state == "shadow" else ():
        if one.shadow != one.scorer_after:
            raise MergeError(
                f"proposal {held.merge_proposal_id}: the shadow of item {one.item_id} is"
                f" {one.shadow or 'none'} now, no longer scorer {one.scorer_after}; the next night measures"
                " anew"
            )


def check_measured(held: Step) -> None:
    """Refuse a proposal whose items have other champions than it was measured against.

    Raises:
        MergeError: names the first of them.
    """
    for one in held.members:
        if one.champion != one.scorer_before:
            raise MergeError(
                f"proposal {held.merge_proposal_id}: it was measured against scorer {one.scorer_before} of"
                f" item {one.item_id}, whose champion is {one.champion or 'none'} now; the next night"
                " measures anew"
            )


def start_shadow(connection: Connection, held: Step, *, word: Word) -> int:
    """Let the merged scorers score beside the champions; returns the epoch of the move.

    Raises:
        MergeError: another shadow stands at an item, or a champion has changed.
    """
    check_measured(held)
    standing = aliases.aliases_of(connection, list(held.items))
    for one in held.members:
        other = standing[one.item_id].get("shadow")
        if other not in (None, one.scorer_after):
            raise MergeError(
                f"item {one.item_id}: scorer {other} is its shadow already and gathers evidence;"
                " promote it or roll it back first"
            )
    epoch = _point_shadows(connection, {one.item_id: one.scorer_after for one in held.members}, word)
    step(connection, held, "shadow", word=Word(word.actor, word.reason, {**word.detail, "epoch": epoch}))
    return epoch


def promote(connection: Connection, held: Step, *, word: Word) -> int:
    """Make the scorers of an approved proposal the champions of all its items at once.

    Returns:
        The epoch of the move.

    Raises:
        MergeError: it is not approved, or a champion has changed since it was measured.
    """
    check_measured(held)
    reason = f"merge proposal {held.merge_proposal_id}: {word.reason}"
    epoch = aliases.promote(connection, held.scorers_after, actor=word.actor, reason=reason)
    step(connection, held, "promoted", word=Word(word.actor, word.reason, {**word.detail, "epoch": epoch}))
    return epoch


def rollback(connection: Connection, held: Step, *, word: Word) -> int:
    """Put the aliases of all its items back to where they stood before a proposal's promotion, exactly.

    Returns:
        The epoch of the move.

    Raises:
        MergeError: it is not promoted, or an item has been promoted again since.
    """
    if held.state == "promoted":
        epoch = _event_epoch(connection, held.merge_proposal_id, "promoted")
        for one in held.members:
            newest = _newest_epoch(connection, one.item_id)
            if newest != epoch or one.champion != one.scorer_after:
                raise MergeError(
                    f"item {one.item_id} has been promoted since this merge (champion {one.champion});"
                    f" `scorefold models rollback {one.item_id}` first"
                )
    step(connection, held, "rolled_back", word=word)
    reason = f"merge proposal {held.merge_proposal_id}: {word.reason}"
    return aliases.rollback(connection, list(held.items), actor=word.actor, reason=reason)


def end(connection: Connection, held: Step, state: str, *, word: Word) -> None:
    """Reject or supersede a proposal; where its scorers are shadows, they are so no more.

    Raises:
        MergeError: it is promoted (roll it back first), or has been ended.
    """
    step(connection, held, state, word=word)
    standing = aliases.aliases_of(connection, list(held.items))
    shadows: dict[str, int | None] = {
        one.item_id: None for one in held.members if standing[one.item_id].get("shadow") == one.scorer_after
    }
    if shadows:
        _point_shadows(connection, shadows, word)


def _point_shadows(connection: Connection, shadows: Mapping[str, int | None], word: Word) -> int:
    """Set or take away the shadows of several items in one move; returns its epoch."""
    with aliases.moving(
        connection, list(shadows), action=aliases.SHADOW, actor=word.actor, reason=word.reason
    ) as move:
        for item_id, scorer_id in shadows.items():
            standing = {alias: one for alias, one in move.before[item_id].items() if alias != "shadow"}
            wanted = standing if scorer_id is None else {**standing, "shadow": scorer_id}
            aliases.point(connection, item_id, wanted, actor=word.actor)
    return move.epoch


def _event_epoch(connection: Connection, merge_proposal_id: int, state: str) -> int:
    """The epoch of the move by which a proposal last came to this state."""
    found = connection.execute(
        text("""
            SELECT (detail ->> 'epoch')::bigint FROM model.merge_event
            WHERE merge_proposal_id = :number AND state = :state ORDER BY merge_event_id DESC LIMIT 1
        """),
        {"number": merge_proposal_id, "state": state},
    )
    return int(found.scalar_one())


def _newest_epoch(connection: Connection, item_id: str) -> int | None:
    """The epoch of an item's newest promotion that has not been undone."""
    found: int | None = connection.execute(
        text("""
            SELECT (a.detail ->> 'epoch')::bigint FROM score.audit a
            WHERE a.subject = :item_id AND a.action = :promote AND a.detail ? 'before'
              AND NOT EXISTS (SELECT FROM score.audit u WHERE u.action = :rollback
                              AND u.detail -> 'undoes' @> to_jsonb(a.audit_id))
            ORDER BY a.audit_id DESC LIMIT 1
        """),
        {"item_id": item_id, "promote": aliases.PROMOTE, "rollback": aliases.ROLLBACK},
    ).scalar_one_or_none()
    return found
