"""What came in, how far it is, and what was refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from db import morning
from workers.report.page import Cell, Column, Mark, Part, Remark, Section, Table, counted, moment, number

if TYPE_CHECKING:
    from sqlalchemy import Connection

_ANCHOR = "batches"


def arrivals(connection: Connection) -> Part:
    """The newest batches and why rows of them were refused."""
    batches = morning.ask(connection, morning.BATCHES)
    rejects = morning.ask(connection, morning.REJECTS)
    blocks = [_batches(batches)]
    if rejects:
        blocks.append(_rejects(rejects))
    lead = "The newest files. Every accepted answer ends as a score or in quarantine, with its reason."
    return Part(Section(_ANCHOR, "Batches", lead, blocks), _remarks(batches))


def _batches(rows: list[dict[str, Any]]) -> Table:
    columns = (
        Column("batch", is_number=True),
        *(Column(name) for name in ("source", "file", "kind", "received (UTC)")),
        *(
            Column(name, is_number=True)
            for name in ("accepted", "scored", "quarantined", "waiting", "refused")
        ),
        Column("finished (UTC)"),
    )
    return Table("Progress of the newest batches", columns, [_batch(row) for row in rows], morning.BATCHES)


def _batch(row: dict[str, Any]) -> list[Cell]:
    return [
        number(row["batch_id"]),
        Cell(row["source"]),
        Cell(row["file_name"]),
        Cell(row["file_format"]),
        moment(row["received_at"]),
        number(row["num_accepted"]),
        number(row["num_scored"]),
        _marked(row["num_quarantined"], Mark.BAD),
        _marked(row["num_waiting"], Mark.UNSURE),
        _marked(row["num_refused"], Mark.UNSURE),
        moment(row["finished_at"]),
    ]


def _marked(count: int, mark: Mark) -> Cell:
    return Cell(f"{count:,}", mark if count else Mark.PLAIN)


def _rejects(rows: list[dict[str, Any]]) -> Table:
    columns = (
        Column("batch", is_number=True),
        Column("reason"),
        Column("rows", is_number=True),
        Column("first line", is_number=True),
    )
    cells = [
        (number(row["batch_id"]), Cell(row["reason"]), number(row["num_rows"]), number(row["first_line"]))
        for row in rows
    ]
    return Table("Refused rows, by reason", columns, cells, morning.REJECTS, num_heads=2)


def _remarks(rows: list[dict[str, Any]]) -> list[Remark]:
    if not rows:
        return [Remark("No batch has come in yet.", _ANCHOR, Mark.UNSURE)]
    told = (
        ("num_waiting", "answer waits for its scores", "answers wait for their scores", Mark.UNSURE),
        ("num_quarantined", "answer is in quarantine", "answers are in quarantine", Mark.BAD),
        ("num_refused", "row or answer was refused", "rows or answers were refused", Mark.UNSURE),
    )
    sums = [(sum(row[name] for row in rows), one, several, mark) for name, one, several, mark in told]
    return [
        Remark(f"{counted(count, one, several)}.", _ANCHOR, mark)
        for count, one, several, mark in sums
        if count
    ]
