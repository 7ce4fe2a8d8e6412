"""Condition codes, and what waits to be read by people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from db import morning
from workers.report.page import Cell, Column, Mark, Part, Remark, Section, Table, counted, moment, number

if TYPE_CHECKING:
    from sqlalchemy import Connection

_FIRST_IN_QUEUE = ("appeal", "disagreement", "quarantined")


def condition_codes(connection: Connection) -> Part:
    """How many answers have a code instead of a level."""
    rows = [
        (Cell(row["item_id"]), Cell(row["condition_code"]), Cell(row["given_by"]), number(row["num_answers"]))
        for row in morning.ask(connection, morning.CONDITION_CODES)
    ]
    columns = (*(Column(name) for name in ("item", "code", "given by")), Column("answers", is_number=True))
    table = Table(
        f"Condition codes of the newest {morning.NUM_BATCHES} batches",
        columns,
        rows,
        morning.CONDITION_CODES,
        num_heads=2,
    )
    lead = "Answers that got no level, and why: blank, too short, copied prompt, refused, wrong language."
    return Part(Section("codes", "Condition codes", lead, [table]))


def read_queue(connection: Connection) -> Part:
    """What waits for a person, the most needed first."""
    found = morning.ask(connection, morning.READ_QUEUE)
    rows = [
        (
            Cell(row["reason"], Mark.BAD if row["reason"] in _FIRST_IN_QUEUE else Mark.PLAIN),
            Cell(row["item_id"]),
            number(row["num_reads"]),
            moment(row["oldest"]),
        )
        for row in found
    ]
    columns = (
        *(Column("reason"), Column("item")),
        *(Column("reads", is_number=True), Column("oldest (UTC)")),
    )
    table = Table("Reads that wait, by need", columns, rows, morning.READ_QUEUE, num_heads=2)
    lead = "docs/graders.md says how to take the next answers from the queue, and how to give their scores."
    remarks = []
    for reason, one, several in (
        ("appeal", "appeal waits", "appeals wait"),
        ("disagreement", "large disagreement waits", "large disagreements wait"),
    ):
        count = sum(row["num_reads"] for row in found if row["reason"] == reason)
        if count:
            remarks.append(Remark(f"{counted(count, one, several)} for a read.", "queue", Mark.BAD))
    return Part(Section("queue", "Read queue", lead, [table]), remarks)
