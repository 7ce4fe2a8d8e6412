"""D2L Brightspace, quiz attempt details: long, one row per question of an attempt; no ids of questions.

A question goes by its title, then by its text. Answers are HTML; the start of the attempt tells one quiz
from another, because no column names the quiz.
"""

from __future__ import annotations

import hashlib
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

NAME = "d2l"

_NEEDED = frozenset({"attempt #", "q #", "answer"})
#: Types whose answers are picked: a row for each choice, and no text to score.
_CLOSED = frozenset({"MC", "T/F", "TF", "M-S", "MS", "MAT", "ORD", "LIK", "2DC", "SIG"})


def recognises(header: Sequence[str]) -> bool:
    """Whether the attempt, the question and the answer are among the columns."""
    return {name.casefold() for name in header} >= _NEEDED


def read(table: Table, source: Source) -> Iterator[ExportedAnswer | RejectedRow]:
    """The answers; an empty Answer is a blank one, since rows stand only for what was administered."""
    at = {name.casefold(): column for column, name in enumerate(table.header)}
    wanted = [source.student_column] if source.student_column else ["Org Defined ID", "Username"]
    if not any(name.casefold() in at for name in wanted):
        raise InvalidInputError(f"no column {' or '.join(wanted)}; name one in student_column")
    for line, cells in table.rows:
        if len(cells) != len(table.header):
            yield wrong_width(line, cells, table)
            continue
        row = {name: cells[column] for name, column in at.items()}
        if row.get("q type", "").strip().upper() in _CLOSED:
            continue
        try:
            yield _answer(line, row, wanted, source)
        except FieldFault as fault:
            yield rejected(line, fault)


def _answer(line: int, row: dict[str, str], wanted: list[str], source: Source) -> ExportedAnswer:
    student = next((cell for name in wanted if (cell := row.get(name.casefold(), "").strip())), "")
    names = [name for column in ("q title", "q text") if (name := row.get(column, "").strip())]
    start, end = (
        exported_moment(row.get(column, ""), source.zone, source.date_format, name=column)
        for column in ("attempt start", "attempt end")
    )
    digest = hashlib.sha256("\0".join(names).encode()).hexdigest()[:16]
    return ExportedAnswer(
        line=line,
        student=required(student, "student_missing", "the row names no student"),
        key=digest if start is None else f"{digest}@{start:%Y-%m-%dT%H:%MZ}",
        questions=tuple(names) or (required("", "question_missing", "no title and no text of the question"),),
        text=markup.to_text(row["answer"]),
        attempt=attempt_number(row["attempt #"]),
        submitted_at=end,
    )
