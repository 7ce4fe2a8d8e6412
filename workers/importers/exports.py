"""Exports of learning platforms become answers to score: items mapped, attempts picked, limits kept."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING

from db.intake import IncomingRow, RejectedRow
from scoring.errors import InvalidInputError
from scoring.text import duplicate_key
from workers.importers import files, formats
from workers.importers.exported import ExportedAnswer, rejected
from workers.importers.fields import FieldFault, answer_text, identifier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from workers.importers.exported import ExportFormat
    from workers.importers.files import SourceFile
    from workers.importers.sources import Source

#: A test has few questions, and every row asks for their items again.
_MAX_QUESTIONS = 10_000


def submissions(
    file: SourceFile,
    source: Source,
    *,
    max_line_bytes: int,
    max_text_chars: int,
    progress: Callable[[int], None] | None = None,
    on_passed_over: Callable[[str], None] | None = None,
) -> Iterator[IncomingRow | RejectedRow]:
    """Answers to score, as the ledger takes them; bounded memory where all attempts count.

    Args:
        file: an inspected export.
        source: what is known about where it comes from.
        max_line_bytes: a longer line is refused rather than read.
        max_text_chars: a longer answer is rejected.
        progress: told how many bytes have been read.
        on_passed_over: told the name of a question that the source's items do not include, per answer.

    Raises:
        InvalidInputError: the file as a whole cannot be read.
    """
    kind = formats.named(file.file_format)
    if kind is None:
        raise InvalidInputError(f"{file.path}: no export of a learning platform that is known")
    counting = _counting_attempts(file, kind, source, max_line_bytes=max_line_bytes)
    item_of = lru_cache(_MAX_QUESTIONS)(source.item_of)
    with files.read_table(file, max_line_bytes=max_line_bytes, progress=progress) as table:
        for answer in _named(file, kind.read(table, source)):
            if isinstance(answer, RejectedRow):
                yield answer
                continue
            item_id = item_of(answer.questions)
            if item_id is None:
                if on_passed_over is not None:
                    on_passed_over(answer.questions[0])
            elif counting is None or counting[answer.student] == _order(answer):
                yield _row(answer, item_id, max_text_chars)


def _named(
    file: SourceFile, answers: Iterator[ExportedAnswer | RejectedRow]
) -> Iterator[ExportedAnswer | RejectedRow]:
    # What a reader of cells finds wrong with a header, said with the file's name.
    try:
        yield from answers
    except InvalidInputError as error:
        told = str(error)
        raise InvalidInputError(
            told if told.startswith(str(file.path)) else f"{file.path}: {told}"
        ) from error


def _counting_attempts(
    file: SourceFile, kind: ExportFormat, source: Source, *, max_line_bytes: int
) -> Mapping[str, float] | None:
    """The attempt of each student that counts; None for all. One entry a student stays in memory."""
    if source.attempts == "all":
        return None
    chosen: dict[str, float] = {}
    with files.read_table(file, max_line_bytes=max_line_bytes) as table:
        for answer in _named(file, kind.read(table, source)):
            if isinstance(answer, RejectedRow):
                continue
            order, known = _order(answer), chosen.get(answer.student)
            if known is None or (order > known) == (source.attempts == "last"):
                chosen[answer.student] = order
    return chosen


def _order(answer: ExportedAnswer) -> float:
    """What puts a student's attempts in order; several tries within one attempt are one."""
    return float(answer.attempt) if answer.submitted_at is None else answer.submitted_at.timestamp()


def _row(answer: ExportedAnswer, item_id: str, max_text_chars: int) -> IncomingRow | RejectedRow:
    fields = {
        "item_id": item_id,
        "response_id": answer.key,
        "student_id": answer.student,
        "text": answer.text,
    }
    try:
        text = answer_text(fields, max_chars=max_text_chars)
        item_id = identifier(fields, "item_id")
        return IncomingRow(
            line=answer.line,
            response_id=identifier(fields, "response_id"),
            attempt=answer.attempt,
            item_id=item_id,
            text=text,
            text_key=duplicate_key(text),
            content_sha256=hashlib.sha256(item_id.encode() + b"\x00" + text.encode()).digest(),
            student_id=identifier(fields, "student_id"),
            submitted_at=answer.submitted_at,
            within_student=True,
        )
    except FieldFault as fault:
        return rejected(answer.line, fault)
