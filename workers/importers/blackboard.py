"""Blackboard, "Download results" of a test by user: wide, columns numbered per question, often UTF-16.

The order of questions can differ from student to student, so the `Question ID` cell tells which it is.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from scoring.errors import InvalidInputError
from workers.importers import markup
from workers.importers.exported import ExportedAnswer, rejected, required, wrong_width
from workers.importers.fields import FieldFault

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from db.intake import RejectedRow
    from workers.importers.sources import Source
    from workers.importers.tables import Table

NAME = "blackboard"

_NUMBERED = re.compile(r"(Question ID|Question|Answer) (\d+)", re.IGNORECASE)


def recognises(header: Sequence[str]) -> bool:
    """Whether `Question ID 1` and `Answer 1` are among the columns."""
    return {"question id 1", "answer 1"} <= {name.casefold() for name in header}


def read(table: Table, source: Source) -> Iterator[ExportedAnswer | RejectedRow]:
    """The answers; an empty `Question ID` means that the student had fewer questions."""
    width = len(table.header)
    names = [name.casefold() for name in table.header]
    wanted = (source.student_column or "Username").casefold()
    if wanted not in names:
        raise InvalidInputError(
            f"no column {source.student_column or 'Username'}; name another one in student_column"
        )
    student_at, questions = names.index(wanted), _questions(table.header)
    for line, short in table.rows:
        # Rows of students with fewer questions end early.
        cells = short + [""] * (width - len(short))
        if len(short) > width:
            yield wrong_width(line, short, table)
            continue
        try:
            student = required(cells[student_at], "student_missing", "the row names no student")
        except FieldFault as fault:
            yield rejected(line, fault)
            continue
        for id_at, question_at, answer_at in questions:
            if number := cells[id_at].strip():
                text = markup.to_text(cells[answer_at])
                yield ExportedAnswer(line, student, number, (number, cells[question_at]), text)


def _questions(header: Sequence[str]) -> list[tuple[int, int, int]]:
    """Columns of each question's id, text and answer."""
    places: dict[str, dict[str, int]] = {}
    for at, name in enumerate(header):
        if found := _NUMBERED.fullmatch(name):
            places.setdefault(found[2], {})[found[1].casefold()] = at
    return [
        (found["question id"], found.get("question", found["question id"]), found["answer"])
        for found in places.values()
        if {"question id", "answer"} <= found.keys()
    ]
