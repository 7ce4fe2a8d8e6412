"""How far apart the items are, and which merges wait for a word, with their evidence."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from db import morning
from workers.report.heatmap import heatmap
from workers.report.page import (
    Cell,
    Column,
    Figure,
    Mark,
    Page,
    Part,
    Remark,
    Section,
    Table,
    counted,
    number,
)
from workers.report.tree import grow
from workers.writer import database_errors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection
    from sqlalchemy import Engine as Database

_MARKS = {"pass": Mark.GOOD, "fail": Mark.BAD, "inconclusive": Mark.UNSURE}
_PENDING = ("proposed", "shadow", "approved")
_MAX_PAIRS = 20


def merges_page(database: Database) -> Page:
    """Distances, proposals and evidence by themselves.

    Raises:
        DatabaseUnavailableError: Postgres does not answer.
    """
    with database_errors(), database.connect() as connection:
        connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
        parts = (distances(connection), proposals(connection))
    return Page("scorefold: merges", datetime.now(UTC), parts)


def distances(connection: Connection) -> Part:
    """The heatmap in the order of its dendrogram, and the nearest pairs."""
    rows = morning.ask(connection, morning.DISTANCES)
    tree = grow({(row["first_item"], row["second_item"]): row["distance"] for row in rows})
    blocks: list[Table | Figure] = []
    if tree is not None:
        words = (
            f"Distances of {len(tree.items)} items in the order in which they cluster:"
            f" {', '.join(tree.items)}. The nearest pairs stand in the table below."
        )
        caption = "Distances, ordered by their tree (average linkage); the darker, the nearer"
        blocks.append(Figure(caption, heatmap(tree, words=words)))
    blocks.append(_pairs(rows))
    lead = (
        "The Gromov-Wasserstein distance compares how two items' answers lie to one another in feature"
        " space. A pair within the noise floor is as near as two samples of one item are."
    )
    return Part(Section("distances", "Distances between items", lead, blocks))


def proposals(connection: Connection) -> Part:
    """Merges that wait or were decided lately, what they rest on, and what they would change."""
    rows = morning.ask(connection, morning.MERGES)
    blocks = [_proposals(rows)]
    if any(row["state"] in _PENDING for row in rows):
        blocks += [
            _evidence(morning.ask(connection, morning.MERGE_ITEMS)),
            _changes(morning.ask(connection, morning.MERGE_CHANGES)),
        ]
    waiting = sum(row["state"] == "proposed" for row in rows)
    remarks = []
    if waiting:
        words = f"{counted(waiting, 'proposed merge waits', 'proposed merges wait')} for a decision."
        remarks.append(Remark(words, "merges", Mark.UNSURE))
    lead = (
        "Nothing is promoted without a person's word or a policy that a person wrote:"
        " scorefold merges approve, or reject, each with a reason."
    )
    return Part(Section("merges", "Merges", lead, blocks), remarks)


def _pairs(rows: Sequence[dict[str, Any]]) -> Table:
    columns = (
        *(Column("item"), Column("item")),
        *(Column(name, is_number=True) for name in ("distance", "noise floor", "answers a side")),
        Column("verdict"),
    )
    cells = [
        (
            Cell(row["first_item"]),
            Cell(row["second_item"]),
            number(row["distance"], digits=4),
            number(row["noise_floor"], digits=4),
            number(row["num_answers"]),
            _nearness(row),
        )
        for row in rows[:_MAX_PAIRS]
    ]
    caption = f"The nearest pairs, {len(cells)} of {len(rows)}"
    return Table(caption, columns, cells, morning.DISTANCES, num_heads=2)


def _nearness(row: dict[str, Any]) -> Cell:
    if not row["is_solved"]:
        return Cell("coarse value", Mark.UNSURE)
    if row["noise_floor"] is None:
        return Cell("noise not known", Mark.UNSURE)
    return Cell("within the noise" if row["distance"] <= row["noise_floor"] else "apart")


def _proposals(rows: Sequence[dict[str, Any]]) -> Table:
    columns = (
        *(Column("proposal", is_number=True), Column("items"), Column("kind"), Column("state")),
        *(Column("evidence"), Column("made by")),
        *(Column(name, is_number=True) for name in ("distance", "rank", "answers", "change of QWK")),
        *(Column(name, is_number=True) for name in ("worst item", "extractors saved", "KB saved")),
        Column("last word"),
    )
    return Table(
        "Merges that are pending, or were decided within four weeks",
        columns,
        [_proposal(row) for row in rows],
        morning.MERGES,
        note="Changes are means over the items on held-out answers that people scored.",
    )


def _proposal(row: dict[str, Any]) -> list[Cell]:
    last = f"{row['changed_by']}, {row['changed_at'].astimezone(UTC):%Y-%m-%d}: {row['reason']}"
    return [
        number(row["merge_proposal_id"]),
        Cell(", ".join(row["items"])),
        Cell(row["kind"]),
        Cell(row["state"].replace("_", " ")),
        Cell(row["verdict"], _MARKS[row["verdict"]]),
        Cell(row["method"].replace("_", " ")),
        number(row["distance"], digits=4),
        Cell(f"{row['distance_rank']} of {row['num_pairs']}"),
        number(row["num_answers"]),
        _change(row["qwk_change"]),
        _change(row["worst_qwk_change"]),
        number(row["num_extractors_saved"]),
        number(row["num_bytes_saved"] / 1000),
        Cell(last),
    ]


def _evidence(rows: Sequence[dict[str, Any]]) -> Table:
    columns = (
        *(Column("proposal", is_number=True), Column("item")),
        *(Column(name, is_number=True) for name in ("answers", "QWK before", "QWK after", "change")),
        Column("verdict"),
    )
    cells = [
        (
            number(row["merge_proposal_id"]),
            Cell(row["item_id"]),
            number(row["num_answers"]),
            number(row["qwk_before"], digits=3),
            number(row["qwk_after"], digits=3),
            _change(row["qwk_change"], row["qwk_change_low"], row["qwk_change_high"]),
            Cell(row["verdict"], _MARKS[row["verdict"]]),
        )
        for row in rows
    ]
    caption = "Evidence for pending merges, with paired intervals of the change"
    return Table(caption, columns, cells, morning.MERGE_ITEMS, num_heads=2)


def _changes(rows: Sequence[dict[str, Any]]) -> Table:
    columns = (
        *(Column("proposal", is_number=True), Column("item"), Column("trait")),
        *(Column(name, is_number=True) for name in ("answers", "changed", "mean change")),
        *(Column(name, is_number=True) for name in ("by two or more", "new zeros")),
    )
    cells = [
        (
            number(row["merge_proposal_id"]),
            Cell(row["item_id"]),
            Cell(row["trait"]),
            number(row["num_answers"]),
            Cell(f"{100 * row['share_changed']:.1f}%"),
            _change(row["mean_change"]),
            number(row["num_changed_by_two"]),
            number(row["num_new_zeros"]),
        )
        for row in rows
    ]
    caption = "What pending merges would change in live scores"
    return Table(caption, columns, cells, morning.MERGE_CHANGES, num_heads=3)


def _change(value: float | None, low: float | None = None, high: float | None = None) -> Cell:
    if value is None:
        return Cell("–")
    told = f"{value:+.3f}" + ("" if low is None or high is None else f" [{low:+.3f}, {high:+.3f}]")
    return Cell(told.replace("-", "−"))
