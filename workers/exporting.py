"""A scorer leaves as one folder that plain peft opens, and comes in from one after every check."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from db import registry, scorers
from scoring.artifacts import ArtifactStore
from scoring.artifacts.bundle import Bundle, read_bundle, write_bundle
from scoring.artifacts.bundle_card import bundle_card
from scoring.backbone import Backbone
from scoring.config import EngineConfig
from scoring.engines.torch import TorchEngine
from scoring.errors import IncompatibleArtifactError, InvalidInputError, UnknownItemError
from scoring.types import ScorerKey
from workers.models import check_traits
from workers.records import stored_record
from workers.roster import spec_of
from workers.writer import database_errors

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine as Database

    from db.registry import ItemRecord
    from scoring.types import ExtractorKey
    from workers.settings import Settings


@dataclass(frozen=True, slots=True)
class Imported:
    """A scorer that came in; `scorer_id` is None after a dry run."""

    item_id: str
    scorer_key: str
    scorer_id: int | None


def export_scorer(database: Database, settings: Settings, scorer_id: int, folder: Path) -> None:
    """Write a scorer with its extractor to a new folder, after it has given its golden logits here.

    Raises:
        InvalidInputError: no such scorer, or the folder cannot be written.
        CorruptArtifactError: its files are missing or changed.
        IncompatibleArtifactError: it was made for another backbone, or cannot be opened by plain peft.
    """
    with database_errors(), database.connect() as connection:
        found = scorers.list_scorers(connection, scorer_ids=[scorer_id])
    if not found:
        raise InvalidInputError(
            f"scorer {scorer_id}: there is none with this number; `scorefold models list` shows them"
        )
    key, store = ScorerKey(found[0].scorer_key), ArtifactStore(settings.artifact_url())
    backbone = Backbone.load(settings.backbone.name)
    TorchEngine(backbone, store, EngineConfig()).load(key)
    scorer = store.read_scorer(key)
    if scorer.use_prompt:
        raise IncompatibleArtifactError(
            f"scorer {scorer_id}: reads the item's prompt too, which the card of an export cannot tell yet"
        )
    bundle = Bundle(scorer, store.read_extractor(scorer.extractor))
    write_bundle(folder, bundle, card=bundle_card(bundle, max_positions=backbone.max_positions))


def import_scorer(database: Database, settings: Settings, folder: Path, *, dry_run: bool = False) -> Imported:
    """Take an exported scorer into the store and the registry; no alias moves.

    It is first written to a store of its own and replayed there: what is refused leaves nothing behind.

    Raises:
        InvalidInputError: the folder is no export.
        UnknownItemError: its item has not been loaded.
        CorruptArtifactError: a file is missing, truncated or changed, or is no safetensors file.
        IncompatibleArtifactError: it was made for another backbone, or for other traits or levels.
        GoldenMismatchError: it does not give its golden logits.
    """
    bundle = read_bundle(folder)
    with database_errors(), database.connect() as connection:
        items = registry.load_items(connection)
    _check_item(bundle, items)
    backbone = Backbone.load(settings.backbone.name)
    with tempfile.TemporaryDirectory() as aside:
        apart = ArtifactStore(aside)
        _, key = _store(bundle, apart)
        TorchEngine(backbone, apart, EngineConfig()).load(key)
    item_id = bundle.scorer.item.item_id
    if dry_run:
        return Imported(item_id, key, None)
    store = ArtifactStore(settings.artifact_url())
    extractor, key = _store(bundle, store)
    lineage = bundle.scorer.lineage
    record = stored_record(
        item_id,
        key,
        extractor,
        bundle.extractor,
        num_bytes=store.num_bytes(extractor),
        metrics={"test": lineage.get("metrics", []), "num_test": lineage.get("num_test", 0)},
    )
    with database_errors(), database.begin() as connection:
        return Imported(item_id, key, registry.register_scorer(connection, record))


def _check_item(bundle: Bundle, items: dict[str, ItemRecord]) -> None:
    item_id = bundle.scorer.item.item_id
    if item_id not in items:
        raise UnknownItemError(f"item {item_id}: has not been loaded; `scorefold items load` it first")
    check_traits(bundle.scorer, spec_of(items[item_id]))


def _store(bundle: Bundle, store: ArtifactStore) -> tuple[ExtractorKey, ScorerKey]:
    extractor = store.write_extractor(bundle.extractor)
    # Another version may describe the same extractor in other words, and so under another key.
    return extractor, store.write_scorer(replace(bundle.scorer, extractor=extractor))
