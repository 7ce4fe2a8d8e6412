"""Moodle, quiz report "Responses": wide, headers in the downloader's language, a dash where nothing is.

No attempt has a number in the file: the moment at which it was started tells it from others. With "all
tries" an attempt has several rows; those after the first repeat neither e-mail nor, before the last, state.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from workers.importers import moodle_columns
from workers.importers.exported import ExportedAnswer, rejected, required, wrong_width
from workers.importers.fields import FieldFault
from workers.importers.moments import exported_moment

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from db.intake import RejectedRow
    from workers.importers.moodle_columns import Columns
    from workers.importers.sources import Source
    from workers.importers.tables import Table

NAME = "moodle"

_NOTHING = "-"
#: What Moodle adds to an essay with files: a last line in the site's language that ends with a file's size.
_ATTACHED = re.compile(
    r"\s*(?:\bAttached files: |(?:^|\n)[^\n:]{3,60}: ).*\(\d[\d.,\s]*(?:bytes?|octets|[KMG]?[Bo])\)\s*$",
    re.IGNORECASE,
)


@dataclass(slots=True)
class _Attempt:
    """The attempt whose rows are being read."""

    name: tuple[str, ...]
    student: str
    num_tries: int = 0
    answered: set[str] = field(default_factory=set)


def recognises(header: Sequence[str]) -> bool:
    """Whether a grade `.../10.00` is followed by numbered responses."""
    return moodle_columns.found(header)


def read(table: Table, source: Source) -> Iterator[ExportedAnswer | RejectedRow]:
    """The answers of finished attempts; a dash is a blank answer, unless another try was answered."""
    columns = moodle_columns.columns(table.header, student_column=source.student_column)
    current: _Attempt | None = None
    for line, cells in table.rows:
        if len(cells) != len(table.header):
            yield wrong_width(line, cells, table)
            continue
        if cells[columns.state].strip() == _NOTHING or cells[columns.completed].strip() in ("", _NOTHING):
            continue
        try:
            current = _attempt_of(cells, columns, current)
            yield from _answers(line, cells, columns, current, source)
        except FieldFault as fault:
            yield rejected(line, fault)


def _attempt_of(cells: list[str], columns: Columns, current: _Attempt | None) -> _Attempt:
    name = (*cells[:2], cells[columns.started])
    student = cells[columns.student].strip()
    # A further try of the same attempt: it has no e-mail, but other ids are repeated.
    if current is not None and current.name == name and student in ("", current.student):
        current.num_tries += 1
        return current
    if student == _NOTHING:
        student = ""
    return _Attempt(name, required(student, "student_missing", "the row names no student"), num_tries=1)


def _answers(
    line: int, cells: list[str], columns: Columns, attempt: _Attempt, source: Source
) -> Iterator[ExportedAnswer]:
    started, completed = (
        exported_moment(cells[column], source.zone, source.date_format, name=name)
        for column, name in ((columns.started, "Started"), (columns.completed, "Completed"))
    )
    if started is None:
        raise FieldFault("started_missing", "the row does not tell when the attempt was started")
    is_last = bool(cells[columns.state].strip())
    for slot in columns.slots:
        text = _ATTACHED.sub("", cells[slot.response])
        text = "" if text.strip() == _NOTHING else text
        if not text and (not is_last or slot.number in attempt.answered):
            continue
        attempt.answered.add(slot.number)
        asked = "" if slot.question is None else cells[slot.question].strip()
        yield ExportedAnswer(
            line=line,
            student=attempt.student,
            key=f"{slot.number}@{started:%Y-%m-%dT%H:%MZ}",
            questions=(asked, slot.number) if asked else (slot.number,),
            text=text,
            attempt=attempt.num_tries,
            submitted_at=completed,
        )
