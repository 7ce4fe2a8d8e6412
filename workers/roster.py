"""Which scorers serve now: follows the registry's epoch, loads what is new, keeps what is refused out.

The roster is replaced whole: a claim is scored from one roster, so a promotion never tears a batch. What a
roster names stays loaded while a claim still holds that roster.
"""

from __future__ import annotations

import threading
import time
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from db import registry
from scoring.errors import PermanentError, ScorefoldError, StoreUnavailableError, TransientError
from scoring.types import ItemId, ItemSpec, ScorerKey, Trait
from workers.router import RoutingTable, build_table
from workers.telemetry import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy import Engine as Database

    from db.registry import ItemRecord, Serving, Snapshot
    from scoring.engine import Engine
    from workers.batcher import Batcher

log = get_logger("roster")

#: How long a store that did not answer is left alone.
_RETRY_S = 15.0


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class Roster:
    """Items, who serves them (the champion first, then its shadow), and where their work goes."""

    epoch: int = -1
    items: Mapping[str, ItemSpec] = field(default_factory=dict)
    serving: Mapping[str, tuple[Serving, ...]] = field(default_factory=dict)
    #: Items whose champion was refused and that have none before it, with the reason.
    refused: Mapping[str, str] = field(default_factory=dict)
    #: Whether every scorer was read, if only to be refused; a store that did not answer is asked again.
    is_whole: bool = True


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

    def __init__(
        self, database: Database, batcher: Batcher, *, ask_store: Callable[[], None] = lambda: None
    ) -> None:
        """Take over a worker's engine.

        Args:
            database: the registry.
            batcher: the way to the engine.
            ask_store: asks the artifact store whether it is there; raises StoreUnavailableError.
        """
        self._database = database
        self._ask_store = ask_store
        self._batcher = batcher
        self._lock = threading.Lock()
        self._held: weakref.WeakSet[Roster] = weakref.WeakSet()
        self._retry_at = 0.0
        self.current = Roster()

    def follow(self) -> bool:
        """Look at the epoch; load and swap if it moved, or if a store that was away may be back.

        Returns whether the roster changed.
        """
        with self._database.connect() as connection:
            if registry.epoch(connection) == self.current.epoch and not self._is_retry_due():
                return False
        return self.refresh()

    def refresh(self) -> bool:
        """Read the registry and load every scorer that serves and is not loaded yet."""
        with self._lock:
            with self._database.connect() as connection:
                snapshot = registry.snapshot(connection)
                items = registry.load_items(connection)
            before = self.current
            is_same = snapshot.epoch == before.epoch and items.keys() == before.items.keys()
            if is_same and not self._is_retry_due():
                return False
            # While this thread asks a store again, the others go on with what is loaded.
            self._retry_at = time.monotonic() + _RETRY_S
            found = self._load(snapshot, {name: spec_of(item) for name, item in items.items()})
            self._retry_at = time.monotonic() + _RETRY_S
            if is_same and not found.is_whole and found.serving == before.serving:
                return False
            self._held.add(before)
            self.current = found
            del before
            self._batcher.errand(self._drop_unused)
            log.info("roster_changed", epoch=snapshot.epoch, num_items=len(self.current.serving))
            return True

    def _is_retry_due(self) -> bool:
        return not self.current.is_whole and time.monotonic() >= self._retry_at

    def _load(self, snapshot: Snapshot, items: Mapping[str, ItemSpec]) -> Roster:
        serving: dict[str, list[Serving]] = {}
        refused: dict[str, str] = {}
        faults = self._bring(snapshot.serving)
        for one in snapshot.serving:
            error = faults.get(one.scorer_key)
            if error is None:
                serving.setdefault(one.item_id, []).append(one)
            elif one.role == "champion":
                kept = self._champions_before(one.item_id)
                serving.setdefault(one.item_id, []).extend(kept)
                if not kept:
                    refused[one.item_id] = str(error)
        is_whole = not any(isinstance(error, StoreUnavailableError) for error in faults.values())
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
            is_whole=is_whole,
        )

    def _champions_before(self, item_id: str) -> list[Serving]:
        return [one for one in self.current.serving.get(item_id, ()) if one.role == "champion"]

    def _bring(self, wanted: Sequence[Serving]) -> dict[str, ScorefoldError]:
        """Have scorers loaded; by the keys of those that cannot be, the reason.

        A store that is away is asked once and from this thread: the engine's would score nothing meanwhile.
        """
        loaded: set[str] = set()
        self._batcher.errand(lambda engine: loaded.update(engine.loaded()))
        missing = [one for one in wanted if one.scorer_key not in loaded]
        faults: dict[str, ScorefoldError] = {}
        away = self._store_fault() if missing else None
        for one in missing:
            error = away or self._load_fault(one)
            if error is not None:
                faults[one.scorer_key] = error
            if isinstance(error, StoreUnavailableError):
                away = away or self._store_fault()
        if away is not None:
            log.error("store_away", num_scorers=len(faults), reason=str(away))
        return faults

    def _store_fault(self) -> StoreUnavailableError | None:
        try:
            self._ask_store()
        except StoreUnavailableError as error:
            return error
        return None

    def _load_fault(self, one: Serving) -> ScorefoldError | None:
        try:
            self._batcher.errand(lambda engine: engine.load(ScorerKey(one.scorer_key)))
        except (PermanentError, TransientError) as error:
            log.error(  # noqa: TRY400 (the reason says it all; a trace adds nothing)
                "scorer_refused", item=one.item_id, scorer=one.scorer_id, reason=str(error)
            )
            return error
        return None

    def _drop_unused(self, engine: Engine) -> None:
        rosters = [self.current, *self._held]
        used = {one.scorer_key for roster in rosters for ones in roster.serving.values() for one in ones}
        for key in [key for key in engine.loaded() if key not in used]:
            engine.unload(key)
