"""Items as merging finds them: the artifacts that serve them, and what has to be equal for two to merge."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from db import merges, registry
from scoring.errors import IncompatibleArtifactError, PermanentError
from scoring.merging.extraction import SharedReader, num_lower_layers
from scoring.merging.updates import updates_of
from scoring.types import ExtractorKey, ScorerKey
from workers.models import check_traits
from workers.roster import spec_of
from workers.writer import database_errors

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray
    from sqlalchemy import Engine as Database

    from db.merges import ServedItem
    from scoring.artifacts import ArtifactStore, ExtractorArtifact, ScorerArtifact
    from scoring.backbone import Backbone
    from scoring.training.network import Inputs
    from scoring.types import ItemSpec


@dataclass(frozen=True, slots=True, eq=False)
class StandingItem:
    """One served item with the scorer that has an extractor of its own.

    Attributes:
        served: who serves it
        item: the item as it is now
        scorer: head and calibration on its own extractor
        extractor: its own extractor
        block: only items of one block can share an extractor: backbone, adapted layers, reading and language
    """

    served: ServedItem
    item: ItemSpec
    scorer: ScorerArtifact
    extractor: ExtractorArtifact
    block: str

    @property
    def item_id(self) -> str:
        """The item's id."""
        return self.served.item_id


def standing_items(
    database: Database, store: ArtifactStore, backbone: Backbone
) -> tuple[dict[str, StandingItem], dict[str, str]]:
    """Every served item whose artifacts can be merged, and the others with the reason.

    Raises:
        DatabaseUnavailableError: Postgres does not answer.
        StoreUnavailableError: the store does not answer.
    """
    with database_errors(), database.connect() as connection:
        served = merges.served_items(connection)
        items = {name: spec_of(record) for name, record in registry.load_items(connection).items()}
    found, left_out = {}, {}
    for one in served:
        try:
            found[one.item_id] = _standing(one, items[one.item_id], store, backbone)
        except PermanentError as error:
            left_out[one.item_id] = str(error)
    return found, left_out


class Readers:
    """One reader for each way of reading, made when it is first asked for."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self._readers: dict[tuple[object, ...], SharedReader] = {}

    def of(self, one: StandingItem) -> SharedReader:
        """The reader under whose cut the item's own adapter stands."""
        scorer, modules = one.scorer, one.extractor.modules()
        kind = num_lower_layers(modules, self.backbone), scorer.pooling, scorer.max_tokens
        if kind not in self._readers:
            self._readers[kind] = SharedReader(
                self.backbone, num_lower=kind[0], pooling=scorer.pooling, max_tokens=scorer.max_tokens
            )
        return self._readers[kind]

    def features(self, one: StandingItem, inputs: Inputs) -> NDArray[np.float32]:
        """Features of answers through the item's own extractor [num_answers, hidden]."""
        return self.of(one).features(inputs, updates_of(one.extractor))


def blocks_of(items: Mapping[str, StandingItem]) -> dict[str, str]:
    """The block of each item."""
    return {name: one.block for name, one in items.items()}


def _standing(served: ServedItem, item: ItemSpec, store: ArtifactStore, backbone: Backbone) -> StandingItem:
    scorer = store.read_scorer(ScorerKey(served.own_key))
    extractor = store.read_extractor(ExtractorKey(served.own_extractor_key))
    check_traits(scorer, item)
    if scorer.backbone_revision != backbone.revision:
        raise IncompatibleArtifactError(
            f"item {item.item_id}: its scorer stands on another backbone than this one"
        )
    if scorer.use_prompt or not extractor.tensors:
        what = "reads the prompt too" if scorer.use_prompt else "has no adapter"
        raise IncompatibleArtifactError(f"item {item.item_id}: its scorer {what}; such a one is not merged")
    num_lower_layers(extractor.modules(), backbone)
    return StandingItem(served, item, scorer, extractor, _block(item, scorer, extractor))


def _block(item: ItemSpec, scorer: ScorerArtifact, extractor: ExtractorArtifact) -> str:
    layers = hashlib.sha256("\n".join(sorted(extractor.modules())).encode()).hexdigest()[:8]
    return " ".join(
        (item.language, scorer.backbone_revision[:12], layers, scorer.pooling, str(scorer.max_tokens))
    )
