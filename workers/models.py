"""The registry's moves as people ask for them: proven before they are made, and tried dry where asked."""

from __future__ import annotations

import os
import pwd
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from db import aliases, registry, scorers
from db.aliases import AliasError
from scoring.artifacts import ArtifactStore
from scoring.errors import IncompatibleArtifactError, InvalidInputError, UnknownItemError
from scoring.types import ScorerKey
from workers.engines import build_engine
from workers.roster import spec_of
from workers.writer import database_errors

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import Connection
    from sqlalchemy import Engine as Database

    from db.scorers import ScorerListing
    from scoring.artifacts import ScorerArtifact
    from scoring.types import ItemSpec
    from workers.settings import Settings

Role = Literal["champion", "shadow"]


@dataclass(frozen=True, slots=True)
class Word:
    """A person's word (or a policy's) behind a move."""

    actor: str
    reason: str


@dataclass(frozen=True, slots=True)
class Moved:
    """One item's aliases before and after a move, each alias -> scorer number."""

    item_id: str
    before: dict[str, int]
    after: dict[str, int]


def current_user() -> str:
    """Who runs this process, as the system knows them."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def promote(
    database: Database,
    settings: Settings,
    scorer_ids: Sequence[int],
    *,
    role: Role = "champion",
    word: Word,
    dry_run: bool = False,
) -> list[Moved]:
    """Make scorers champions or shadows of their items, once each has been loaded and replayed here.

    Args:
        database: the registry.
        settings: backbone and artifact store.
        scorer_ids: at most one an item.
        role: what to make them.
        word: who says so, and why.
        dry_run: prove and show, but leave everything as it is.

    Raises:
        InvalidInputError: no such scorer, or two of one item.
        CorruptArtifactError: a scorer's files are missing or changed.
        IncompatibleArtifactError: a scorer is for another backbone or has other levels than its item.
        GoldenMismatchError: a scorer does not give its golden logits.
    """
    with database_errors(), database.connect() as connection:
        found = scorers.list_scorers(connection, scorer_ids=scorer_ids) if scorer_ids else []
    _refuse_unknown(scorer_ids, found)
    prove(database, settings, found)
    items = [one.item_id for one in found]
    with _moving(database, items, dry_run=dry_run) as (connection, moved):
        if role == "champion":
            aliases.promote(connection, scorer_ids, actor=word.actor, reason=word.reason)
        else:
            for scorer_id in scorer_ids:
                aliases.set_shadow(connection, scorer_id, actor=word.actor, reason=word.reason)
    return moved


def rollback(
    database: Database,
    item_ids: Sequence[str],
    *,
    role: Role = "champion",
    word: Word,
    dry_run: bool = False,
) -> list[Moved]:
    """Undo the newest promotion (or the newest setting of a shadow) of each item.

    Raises:
        InvalidInputError: an item has no such move left to be undone.
    """
    action = aliases.PROMOTE if role == "champion" else aliases.SHADOW
    with _moving(database, item_ids, dry_run=dry_run) as (connection, moved):
        aliases.rollback(connection, item_ids, action=action, actor=word.actor, reason=word.reason)
    return moved


def prove(database: Database, settings: Settings, found: Sequence[ScorerListing]) -> None:
    """Load scorers as a worker would, golden rows and all, and hold their traits against their items'."""
    with database_errors(), database.connect() as connection:
        items = registry.load_items(connection)
    store, engine = ArtifactStore(settings.artifact_url()), build_engine(settings)
    for one in found:
        if one.item_id not in items:
            raise UnknownItemError(f"item {one.item_id}: is retired; load it again with `items load`")
        check_traits(store.read_scorer(ScorerKey(one.scorer_key)), spec_of(items[one.item_id]))
        engine.load(ScorerKey(one.scorer_key))


def check_traits(artifact: ScorerArtifact, item: ItemSpec) -> None:
    """Refuse a head that was made for other traits or levels than the item has.

    Raises:
        IncompatibleArtifactError: names both.
    """
    made_for, has = (
        [(trait.name, trait.num_levels) for trait in spec.traits] for spec in (artifact.item, item)
    )
    if made_for != has:
        raise IncompatibleArtifactError(
            f"item {item.item_id}: the head was made for {_told(made_for)}, the item has {_told(has)};"
            " train the item again"
        )


@contextmanager
def _moving(
    database: Database, item_ids: Sequence[str], *, dry_run: bool
) -> Iterator[tuple[Connection, list[Moved]]]:
    """One transaction that fills in what has moved; a dry one is taken back."""
    moved: list[Moved] = []
    with database_errors(), database.connect() as connection:
        before = aliases.aliases_of(connection, item_ids)
        try:
            yield connection, moved
        except AliasError as error:
            raise InvalidInputError(str(error)) from error
        after = aliases.aliases_of(connection, item_ids)
        moved.extend(Moved(name, before[name], after[name]) for name in before)
        if not dry_run:
            connection.commit()


def _refuse_unknown(scorer_ids: Sequence[int], found: Sequence[ScorerListing]) -> None:
    unknown = set(scorer_ids) - {one.scorer_id for one in found}
    if unknown or not scorer_ids:
        named = f"scorer {min(unknown)}: there is none with this number" if unknown else "name a scorer"
        raise InvalidInputError(f"{named}; `scorefold models list` shows them")


def _told(traits: Sequence[tuple[str, int]]) -> str:
    return ", ".join(f"{name} 0-{num_levels - 1}" for name, num_levels in traits)
