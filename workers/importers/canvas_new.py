"""Canvas New Quizzes, "Student Analysis": wide, five columns a question, the middle one its whole text.

Each question is ItemID, ItemType, the question's text, EarnedPoints, Status. Answers are HTML.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scoring.errors import InvalidInputError
from workers.importers import markup
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

NAME = "canvas_new"

_BEFORE, _AFTER = ("itemid", "itemtype"), ("earnedpoints", "status")
#: Types whose answers are picked or computed: no text to score, whatever the mapping says.
_CLOSED = frozenset(
    ("choice", "true-false", "multi-answer", "matching", "ordering", "categorization", "numeric", "formula")
) | {"hot-spot", "file-upload"}


def recognises(header: Sequence[str]) -> bool:
    """Whether some five columns are those of a question."""
    return bool(_questions(header))


def read(table: Table, source: Source) -> Iterator[ExportedAnswer | RejectedRow]:
    """The answers; a question without its ItemID in a row was not administered to that student."""
    questions = _questions(table.header)
    lead = {_plain(name): at for at, name in enumerate(table.header[: questions[0]])}
    student_at = lead.get(_plain(source.student_column or "id"))
    if student_at is None:
        raise InvalidInputError(f"no column {source.student_column or 'ID'}; found {', '.join(lead)}")
    for line, cells in table.rows:
        if len(cells) != len(table.header):
            yield wrong_width(line, cells, table)
            continue
        try:
            student = required(cells[student_at], "student_missing", "the row names no student")
            attempt = attempt_number(cells[lead["attempt"]] if "attempt" in lead else "")
            submitted = cells[lead["submitted"]] if "submitted" in lead else ""
            moment = exported_moment(submitted, source.zone, source.date_format, name="Submitted")
        except FieldFault as fault:
            yield rejected(line, fault)
            continue
        for at in questions:
            number, kind = cells[at].strip(), cells[at + 1].strip().casefold()
            if number and kind not in _CLOSED:
                text = markup.to_text(cells[at + 2])
                yield ExportedAnswer(
                    line, student, number, (number, table.header[at + 2]), text, attempt, moment
                )


def _questions(header: Sequence[str]) -> list[int]:
    names = [_plain(name) for name in header]
    return [
        at
        for at in range(len(names) - 4)
        if tuple(names[at : at + 2]) == _BEFORE and tuple(names[at + 3 : at + 5]) == _AFTER
    ]


def _plain(name: str) -> str:
    return name.replace(" ", "").replace("_", "").casefold()
