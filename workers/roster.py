"""Which scorers serve now: follows the registry's epoch, loads what is new, keeps what is refused out.

The roster is replaced whole: a claim is scored from one roster, so a promotion never tears a batch. What a
roster names stays loaded while a claim still holds that roster.
"""

from __future__ import annotations

import threading
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from db import registry
from scoring.errors import PermanentError, TransientError
from scoring.types import ItemId, ItemSpec, ScorerKey, Trait
from workers.router import RoutingTable, build_table
from workers.telemetry import get_logger

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Engine as Database

    from db.registry import ItemRecord, Serving, Snapshot
    from scoring.engine import Engine
    from workers.batcher import Batcher

log = get_logger("roster")


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class Roster:
    """Items, who serves them (the champion first, then its shadow), and where their work goes."""

    epoch: int = -1
    items: Mapping[str, ItemSpec] = field(default_factory=dict)
    serving: Mapping[str, tuple[Serving, ...]] = field(default_factory=dict)
    #: Items whose champion was refused and that have none before it, with the reason.
    refused: Mapping[str, str] = field(default_factory=dict)


def spec_of(item: ItemRecord) -> ItemSpec:
    """The item as the model core knows it."""
    return ItemSpec(
        item_id=ItemId(item.item_id),
        prompt=item.prompt,
        language=item.language,
        rubric=item.rubric,
        traits=tuple(Trait(trait.trait, trait.num_levels, trait.labels) for trait in item.traits),
    )


def routing_table(snapshot: Snapshot, *, num_shards: int) -> RoutingTable:
    """Where each item's work goes, by its champion's extractor."""
    champions = {one.item_id: one.extractor_key for one in snapshot.serving if one.role == "champion"}
    return build_table(snapshot.epoch, champions, num_shards=num_shards)


class RosterKeeper:
    """Holds the present roster of a worker and brings it up to date."""

    def __init__(self, database: Database, batcher: Batcher) -> None:
        self._database = database
        self._batcher = batcher
        self._lock = threading.Lock()
        self._held: weakref.WeakSet[Roster] = weakref.WeakSet()
        self.current = Roster()

    def follow(self) -> bool:
        """Look at the epoch; load and swap if it moved. Returns whether the roster changed."""
        with self._database.connect() as connection:
            if registry.epoch(connection) == self.current.epoch:
                return False
        return self.refresh()

    def refresh(self) -> bool:
        """Read the registry and load every scorer that serves and is not loaded yet."""
        with self._lock:
            with self._database.connect() as connection:
                snapshot = registry.snapshot(connection)
                items = registry.load_items(connection)
            before = self.current
            if snapshot.epoch == before.epoch and items.keys() == before.items.keys():
                return False
            self._held.add(before)
            self.current = self._load(snapshot, {name: spec_of(item) for name, item in items.items()})
            del before
            self._batcher.errand(self._drop_unused)
            log.info("roster_changed", epoch=snapshot.epoch, num_items=len(self.current.serving))
            return True

    def _load(self, snapshot: Snapshot, items: Mapping[str, ItemSpec]) -> Roster:
        serving: dict[str, list[Serving]] = {}
        refused: dict[str, str] = {}
        for one in snapshot.serving:
            reason = self._refusal(one)
            if reason is None:
                serving.setdefault(one.item_id, []).append(one)
            elif one.role == "champion":
                kept = [old for old in self.current.serving.get(one.item_id, ()) if old.role == "champion"]
                serving.setdefault(one.item_id, []).extend(kept)
                if not kept:
                    refused[one.item_id] = reason
        return Roster(
            epoch=snapshot.epoch,
            items=items,
            # A shadow alone serves nobody: without a champion an item's answers wait.
            serving={
                name: tuple(ones)
                for name, ones in serving.items()
                if any(one.role == "champion" for one in ones)
            },
            refused=refused,
        )

    def _refusal(self, one: Serving) -> str | None:
        try:
            self._batcher.errand(lambda engine: engine.load(ScorerKey(one.scorer_key)))
        except (PermanentError, TransientError) as error:
            log.error(  # noqa: TRY400 (the reason says it all; a trace adds nothing)
                "scorer_refused", item=one.item_id, scorer=one.scorer_id, reason=str(error)
            )
            return str(error)
        return None

    def _drop_unused(self, engine: Engine) -> None:
        rosters = [self.current, *self._held]
        used = {one.scorer_key for roster in rosters for ones in roster.serving.values() for one in ones}
        for key in [key for key in engine.loaded() if key not in used]:
            engine.unload(key)
