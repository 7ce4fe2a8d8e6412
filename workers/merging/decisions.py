"""What people (or their policy) decide about a proposal: shadow, approve, reject, roll back; pins beside it.

Every decision is one transaction, tried dry where asked; scorers are loaded here as a worker would load them
before they are promoted.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from db import aliases, merge_steps, merges, pins, registry, scorers
from db.aliases import AliasError
from db.merge_steps import MergeError
from scoring.errors import InvalidInputError, UnknownItemError
from workers.models import Moved, prove
from workers.telemetry import get_logger
from workers.writer import database_errors

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import Connection
    from sqlalchemy import Engine as Database

    from db.merge_steps import Step
    from db.merges import ShadowCount, Word
    from scoring.evaluation.policy import MergingPolicy
    from workers.settings import Settings

log = get_logger("merging")


@dataclass(frozen=True, slots=True)
class Decided:
    """A proposal after a decision, and what moved."""

    merge_proposal_id: int
    items: tuple[str, ...]
    before: str
    state: str
    moved: tuple[Moved, ...]
    dry_run: bool


def start_shadow(database: Database, number: int, *, word: Word, dry_run: bool = False) -> Decided:
    """Let a proposal's scorers score beside the champions.

    Raises:
        InvalidInputError: it is not proposed, another shadow stands, or a champion has changed.
    """
    with _deciding(database, number, dry_run=dry_run) as (connection, held, decided):
        merge_steps.start_shadow(connection, held, word=word)
    return decided[0]


def approve(
    database: Database,
    settings: Settings,
    number: int,
    *,
    policy: MergingPolicy | None,
    word: Word,
    at_night: bool = False,
    dry_run: bool = False,
) -> Decided:
    """Approve a proposal and promote its scorers for all its items at once.

    Args:
        database: the registry.
        settings: backbone and artifact store.
        number: the proposal.
        policy: how long a shadow period is; None does without the rest of it.
        word: who says so, and why.
        at_night: approve now; the next nightly run promotes.
        dry_run: prove and show, but leave everything as it is.

    Raises:
        InvalidInputError: it cannot be approved; says why.
        GoldenMismatchError: a scorer does not give its golden logits.
    """
    with database_errors(), database.connect() as connection:
        chosen = [one.scorer_after for one in _held(connection, number).members]
        found = scorers.list_scorers(connection, scorer_ids=chosen)
        counts = merges.shadow_counts(connection, number)
    if policy is not None and (missing := too_few(counts, policy)):
        raise InvalidInputError(f"proposal {number}: {missing}; wait for more, or say --early")
    prove(database, settings, found)
    with _deciding(database, number, dry_run=dry_run) as (connection, held, decided):
        merge_steps.check_measured(held)
        approved = merge_steps.step(connection, held, "approved", word=word)
        if not at_night:
            merge_steps.promote(connection, approved, word=word)
    return decided[0]


def reject(database: Database, number: int, *, word: Word, dry_run: bool = False) -> Decided:
    """Reject a proposal; its scorers score no more beside the champions.

    Raises:
        InvalidInputError: it is promoted, or has been ended.
    """
    with _deciding(database, number, dry_run=dry_run) as (connection, held, decided):
        merge_steps.end(connection, held, "rejected", word=word)
    return decided[0]


def rollback(database: Database, number: int, *, word: Word, dry_run: bool = False) -> Decided:
    """Undo a promoted proposal: all its items' aliases stand exactly as before it.

    Raises:
        InvalidInputError: it is not promoted, or an item has been promoted again since.
    """
    with _deciding(database, number, dry_run=dry_run) as (connection, held, decided):
        merge_steps.rollback(connection, held, word=word)
    return decided[0]


def pin(database: Database, items: Sequence[str], kind: str, *, word: Word) -> None:
    """Pin two items together or apart, or one alone.

    Raises:
        UnknownItemError: an item is not loaded.
    """
    first, second = items[0], items[-1]
    with database_errors(), database.begin() as connection:
        unknown = set(items) - registry.load_items(connection).keys()
        if unknown:
            raise UnknownItemError(
                f"item {min(unknown)}: has not been loaded; `scorefold items list` shows all"
            )
        pins.pin(connection, first, second, kind, word=word)


def unpin(database: Database, items: Sequence[str]) -> None:
    """Take a pin away.

    Raises:
        InvalidInputError: there is none.
    """
    with database_errors(), database.begin() as connection:
        if not pins.unpin(connection, items[0], items[-1]):
            raise InvalidInputError(
                f"{' and '.join(items)}: there is no such pin; `scorefold merges pins` lists all"
            )


def too_few(counts: Sequence[ShadowCount], policy: MergingPolicy) -> str | None:
    """What is missing of a shadow period; None where nothing is."""
    for one in counts:
        if one.num_answers < policy.min_shadow_answers:
            return (
                f"item {one.item_id}, trait {one.trait}: its merged scorer has scored {one.num_answers} of"
                f" {policy.min_shadow_answers} live answers beside the champion"
            )
    return None


@contextmanager
def _deciding(
    database: Database, number: int, *, dry_run: bool
) -> Iterator[tuple[Connection, Step, list[Decided]]]:
    """One transaction around a decision, which fills in what came of it; a dry one is taken back."""
    decided: list[Decided] = []
    with database_errors(), database.connect() as connection:
        try:
            held = merge_steps.hold(connection, number)
            before = aliases.aliases_of(connection, list(held.items))
            yield connection, held, decided
            after = aliases.aliases_of(connection, list(held.items))
            state = merge_steps.hold(connection, number).state
        except (MergeError, AliasError) as error:
            raise InvalidInputError(str(error)) from error
        moved = tuple(Moved(name, before[name], after[name]) for name in held.items)
        decided.append(Decided(number, held.items, held.state, state, moved, dry_run))
        if not dry_run:
            connection.commit()
            log.info("merge_decided", proposal=number, state=state)


def _held(connection: Connection, number: int) -> Step:
    try:
        return merge_steps.hold(connection, number)
    except MergeError as error:
        raise InvalidInputError(str(error)) from error
