"""Items, extractors, scorers, and who serves now; how aliases move stands in `db.aliases`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.expression import bindparam

from db import aliases

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection


@dataclass(frozen=True, slots=True)
class TraitRecord:
    """One trait of an item; `labels` is empty or has one word a level."""

    trait: str
    num_levels: int
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ItemRecord:
    """One item as it is loaded and read back."""

    item_id: str
    prompt: str
    language: str
    rubric: str
    traits: tuple[TraitRecord, ...]


@dataclass(frozen=True, slots=True)
class ScorerRecord:
    """A scorer with its extractor, as the artifact store and the training gave them."""

    item_id: str
    scorer_key: str
    extractor_key: str
    extractor_kind: str
    backbone: str
    backbone_revision: str
    rank: int
    alpha: float
    target_modules: tuple[str, ...]
    num_bytes: int
    metrics: dict[str, Any]
    training_run_id: int | None = None


@dataclass(frozen=True, slots=True)
class Serving:
    """One scorer that serves an item now."""

    item_id: str
    role: str
    scorer_id: int
    scorer_key: str
    extractor_key: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Which scorers serve, as of one epoch; taken whole, so that a promotion never tears a batch."""

    epoch: int
    serving: tuple[Serving, ...]


#: Where most callers look for it.
promote = aliases.promote


class ItemConflictError(Exception):
    """An item with scorers cannot change its traits or levels."""


def save_items(connection: Connection, items: Sequence[ItemRecord]) -> tuple[int, int]:
    """Add items, or bring known ones up to date.

    Returns:
        How many are new, and how many were known and have changed.

    Raises:
        ItemConflictError: the traits of an item that has scorers would change.
    """
    num_new = num_changed = 0
    known = load_items(connection)
    for item in items:
        before = known.get(item.item_id)
        if before == item:
            continue
        if before is not None and before.traits != item.traits:
            _refuse_if_scored(connection, item.item_id)
        _save_item(connection, item)
        num_new += before is None
        num_changed += before is not None
    if num_changed:
        # Workers hold prompts and languages, by which answers get condition codes.
        aliases.advance(connection)
    return num_new, num_changed


def load_items(connection: Connection) -> dict[str, ItemRecord]:
    """All items that are not retired, by id."""
    rows = connection.execute(
        text("""
            SELECT i.item_id, i.prompt, i.language, i.rubric,
                   array_agg(t.trait ORDER BY t.position) AS traits,
                   array_agg(t.num_levels ORDER BY t.position) AS levels,
                   jsonb_agg(to_jsonb(t.labels) ORDER BY t.position) AS labels
            FROM model.item i JOIN model.trait t USING (item_id)
            WHERE i.retired_at IS NULL GROUP BY i.item_id ORDER BY i.item_id
        """)
    )
    return {
        row.item_id: ItemRecord(
            item_id=row.item_id,
            prompt=row.prompt,
            language=row.language,
            rubric=row.rubric,
            traits=tuple(
                TraitRecord(trait, num_levels, tuple(labels))
                for trait, num_levels, labels in zip(row.traits, row.levels, row.labels, strict=True)
            ),
        )
        for row in rows
    }


def start_training(
    connection: Connection, item_id: str, *, trigger: str, config: dict[str, Any], data: dict[str, Any]
) -> int:
    """Note that a training begins; returns its number."""
    statement = text("""
        INSERT INTO model.training_run (item_id, trigger, state, config, data)
        VALUES (:item_id, :trigger, 'running', :config, :data) RETURNING training_run_id
    """).bindparams(bindparam("config", type_=JSONB), bindparam("data", type_=JSONB))
    values = {"item_id": item_id, "trigger": trigger, "config": config, "data": data}
    return int(connection.execute(statement, values).scalar_one())


def fail_training(connection: Connection, training_run_id: int, error: str) -> None:
    """Note that a training ended without a scorer."""
    connection.execute(
        text("""
            UPDATE model.training_run SET state = 'failed', error = :error, finished_at = now()
            WHERE training_run_id = :run
        """),
        {"run": training_run_id, "error": error},
    )


def register_scorer(connection: Connection, scorer: ScorerRecord) -> int:
    """Add a scorer and its extractor, or find them: equal content has one row.

    Returns:
        The scorer's number.
    """
    values = {
        "item_id": scorer.item_id,
        "scorer_key": scorer.scorer_key,
        "extractor_key": scorer.extractor_key,
        "kind": scorer.extractor_kind,
        "backbone": scorer.backbone,
        "backbone_revision": scorer.backbone_revision,
        "rank": scorer.rank,
        "alpha": scorer.alpha,
        "target_modules": list(scorer.target_modules),
        "num_bytes": scorer.num_bytes,
        "run": scorer.training_run_id,
        "metrics": scorer.metrics,
    }
    connection.execute(
        text("""
            INSERT INTO model.extractor (extractor_key, kind, backbone, backbone_revision, rank, alpha,
                                         target_modules, num_bytes)
            VALUES (:extractor_key, :kind, :backbone, :backbone_revision, :rank, :alpha, :target_modules,
                    :num_bytes)
            ON CONFLICT (extractor_key) DO NOTHING
        """),
        values,
    )
    added = text("""
        INSERT INTO model.scorer (scorer_key, item_id, extractor_id, training_run_id, metrics)
        SELECT :scorer_key, :item_id, extractor_id, :run, :metrics
        FROM model.extractor WHERE extractor_key = :extractor_key
        ON CONFLICT (scorer_key) DO NOTHING
    """).bindparams(bindparam("metrics", type_=JSONB))
    connection.execute(added, values)
    if scorer.training_run_id is not None:
        finish = text("""
            UPDATE model.training_run SET state = 'done', metrics = :metrics, finished_at = now()
            WHERE training_run_id = :run
        """).bindparams(bindparam("metrics", type_=JSONB))
        connection.execute(finish, values)
    found = connection.execute(
        text("SELECT scorer_id FROM model.scorer WHERE scorer_key = :scorer_key"), values
    )
    return int(found.scalar_one())


def has_champion(connection: Connection, item_id: str) -> bool:
    """Whether an item is served."""
    found = connection.execute(
        text("SELECT 1 FROM model.alias WHERE item_id = :item_id AND alias = 'champion'"),
        {"item_id": item_id},
    )
    return found.first() is not None


def epoch(connection: Connection) -> int:
    """The counter that every change of an alias moves."""
    return int(connection.execute(text("SELECT epoch FROM model.epoch")).scalar_one())


def snapshot(connection: Connection) -> Snapshot:
    """Who serves now: the champions and shadows of all items, in one statement."""
    rows = connection.execute(
        text("""
            SELECT e.epoch, a.item_id, a.alias, s.scorer_id, s.scorer_key, x.extractor_key
            FROM model.epoch e
            LEFT JOIN (model.alias a JOIN model.scorer s USING (scorer_id)
                       JOIN model.extractor x USING (extractor_id)
                       JOIN model.item i ON i.item_id = a.item_id AND i.retired_at IS NULL)
                   ON a.alias IN ('champion', 'shadow')
            ORDER BY a.item_id, a.alias
        """)
    ).all()
    serving = tuple(
        Serving(row.item_id, row.alias, row.scorer_id, row.scorer_key, row.extractor_key)
        for row in rows
        if row.item_id is not None
    )
    return Snapshot(epoch=rows[0].epoch, serving=serving)


def _save_item(connection: Connection, item: ItemRecord) -> None:
    connection.execute(
        text("""
            INSERT INTO model.item (item_id, prompt, language, rubric)
            VALUES (:item_id, :prompt, :language, :rubric)
            ON CONFLICT (item_id) DO UPDATE SET prompt = excluded.prompt, language = excluded.language,
                                                rubric = excluded.rubric, retired_at = NULL
        """),
        {"item_id": item.item_id, "prompt": item.prompt, "language": item.language, "rubric": item.rubric},
    )
    connection.execute(text("DELETE FROM model.trait WHERE item_id = :item_id"), {"item_id": item.item_id})
    connection.execute(
        text("""
            INSERT INTO model.trait (item_id, trait, position, num_levels, labels)
            VALUES (:item_id, :trait, :position, :num_levels, :labels)
        """),
        [
            {
                "item_id": item.item_id,
                "trait": trait.trait,
                "position": position,
                "num_levels": trait.num_levels,
                "labels": list(trait.labels),
            }
            for position, trait in enumerate(item.traits)
        ],
    )


def _refuse_if_scored(connection: Connection, item_id: str) -> None:
    num_scorers = connection.execute(
        text("SELECT count(*) FROM model.scorer WHERE item_id = :item_id"), {"item_id": item_id}
    ).scalar_one()
    if num_scorers:
        raise ItemConflictError(
            f"item {item_id} has {num_scorers} scorer(s), so its traits and levels cannot change;"
            " load it under another id"
        )
