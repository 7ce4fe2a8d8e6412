"""Rows that several tests put into the tables: items, scorers, submissions."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from db import intake, registry
from db.intake import FileHeader, IncomingRow
from db.ledger import ScoreColumns
from db.registry import ItemRecord, ScorerRecord, TraitRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import Connection


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def item(item_id: str = "item-a", *levels: int) -> ItemRecord:
    traits = tuple(TraitRecord(f"t{number}", count) for number, count in enumerate(levels or (3,)))
    return ItemRecord(item_id, prompt="Why?", language="en", rubric="", traits=traits)


def scorer(item_id: str = "item-a", version: str = "1", extractor: str | None = None) -> ScorerRecord:
    return ScorerRecord(
        item_id=item_id,
        scorer_key=digest(f"scorer {item_id} {version}").hex(),
        extractor_key=digest(extractor or f"extractor {item_id} {version}").hex(),
        extractor_kind="item",
        backbone="tiny",
        backbone_revision="0" * 64,
        rank=8,
        alpha=16.0,
        target_modules=("query", "value"),
        num_bytes=1000,
        metrics={},
    )


def serve(connection: Connection, *item_ids: str) -> dict[str, int]:
    """Load items with one trait of three levels each, and a champion for each; scorer ids by item."""
    registry.save_items(connection, [item(name) for name in item_ids])
    scorers = {name: registry.register_scorer(connection, scorer(name)) for name in item_ids}
    registry.promote(connection, list(scorers.values()), actor="test", reason="test")
    return scorers


def incoming(
    line: int,
    response_id: str,
    text: str = "an answer",
    *,
    item_id: str = "item-a",
    attempt: int = 1,
    student_id: str | None = None,
) -> IncomingRow:
    return IncomingRow(
        line=line,
        response_id=response_id,
        attempt=attempt,
        item_id=item_id,
        text=text,
        text_key=digest(text),
        content_sha256=digest(f"{item_id}\0{text}"),
        student_id=student_id,
    )


def header(name: str = "night.csv", *, source: str = "lms") -> FileHeader:
    return FileHeader(source, name, "csv", digest(name).hex(), 100)


def accept(
    connection: Connection, num_rows: int, *, item_id: str = "item-a", name: str = "f.csv"
) -> list[int]:
    """Accept that many answers; their submission ids."""
    from sqlalchemy import text

    rows = [incoming(n, f"{name}-{n}", f"answer {n}", item_id=item_id) for n in range(1, num_rows + 1)]
    report = intake.accept_file(connection, header(name), rows)
    found = connection.execute(
        text("SELECT submission_id FROM ingest.submission WHERE batch_id = :batch ORDER BY 1"),
        {"batch": report.batch_id},
    )
    return [row.submission_id for row in found]


def sheet(
    ids: Sequence[int], scorer_id: int, *, level: int = 1, traits: Iterable[str] = ("t0",)
) -> ScoreColumns:
    pairs = [(number, trait) for number in ids for trait in traits]
    return ScoreColumns(
        submission_id=[number for number, _ in pairs],
        trait=[trait for _, trait in pairs],
        scorer_id=[scorer_id] * len(pairs),
        role=["champion"] * len(pairs),
        level=[level] * len(pairs),
        probabilities=[[0.1, 0.8, 0.1]] * len(pairs),
        confidence=[0.8] * len(pairs),
        condition_code=[None] * len(pairs),
        needs_review=[False] * len(pairs),
        engine=["test"] * len(pairs),
    )
