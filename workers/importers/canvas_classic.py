"""Canvas Classic Quizzes, "Student Analysis": wide, two columns a question, read by position.

A question's first header is `id: text`, the second only its points, so that headers repeat. The columns
before the questions vary in number and are translated; what they are is told by their place.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from scoring.errors import InvalidInputError
from workers.importers.exported import (
    ExportedAnswer,
    attempt_number,
    rejected,
    required,
    wrong_width,
)
from workers.importers.fields import FieldFault
from workers.importers.moments import exported_moment

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from db.intake import RejectedRow
    from workers.importers.sources import Source
    from workers.importers.tables import Table

NAME = "canvas_classic"

_QUESTION = re.compile(r"(\d+): (.*)", re.DOTALL)
_POINTS = re.compile(r"\d+([.,]\d+)?")
#: name, id, section, section_id, submitted: an anonymous report has the last three and perhaps two more.
_LEAST_NAMED_COLUMNS = 6


def recognises(header: Sequence[str]) -> bool:
    """Whether some column is `id: text` and the next one a number of points."""
    return bool(_questions(header))


def read(table: Table, source: Source) -> Iterator[ExportedAnswer | RejectedRow]:
    """The answers; both cells of a question empty means that it was not administered."""
    questions = _questions(table.header)
    num_lead = questions[0][0]
    student_at = _student_column(table.header[:num_lead], source)
    for line, cells in table.rows:
        if len(cells) != len(table.header):
            yield wrong_width(line, cells, table)
            continue
        try:
            student = required(cells[student_at], "student_missing", "the row names no student")
            # `submitted` ends the columns before the questions, unless the attempt follows it.
            numbered = cells[num_lead - 1].strip().isdigit()
            attempt = attempt_number(cells[num_lead - 1] if numbered else "")
            submitted = cells[num_lead - 2 if numbered else num_lead - 1]
            moment = exported_moment(submitted, source.zone, source.date_format, name="submitted")
        except FieldFault as fault:
            yield rejected(line, fault)
            continue
        for at, number, question in questions:
            text, points = cells[at], cells[at + 1]
            if text or points.strip():
                yield ExportedAnswer(line, student, number, (number, question), text, attempt, moment)


def _questions(header: Sequence[str]) -> list[tuple[int, str, str]]:
    """Column, id and text of each question."""
    return [
        (at, found[1], found[2])
        for at, name in enumerate(header[:-1])
        if (found := _QUESTION.fullmatch(name)) and _POINTS.fullmatch(header[at + 1])
    ]


def _student_column(lead: Sequence[str], source: Source) -> int:
    names = [name.casefold() for name in lead]
    if source.student_column is not None:
        if source.student_column.casefold() not in names:
            raise InvalidInputError(f"no column {source.student_column}; found {', '.join(lead)}")
        return names.index(source.student_column.casefold())
    if "id" in names:
        return names.index("id")
    if len(lead) >= _LEAST_NAMED_COLUMNS and not names[0].startswith("section"):
        return 1
    raise InvalidInputError(
        f"no column tells the students apart (found {', '.join(lead)}): an anonymous survey cannot be scored;"
        " if one does, name it in student_column of this source"
    )
