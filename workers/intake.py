"""A file becomes submissions: read, judged and committed as one transaction, then dispatched."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from db import humans, intake
from scoring.errors import InvalidInputError
from workers.importers import answers, exports, files, formats, label_studio
from workers.importers.sources import Source
from workers.rejects import write_rejects
from workers.writer import database_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from sqlalchemy import Engine as Database

    from db.humans import HumanReport, HumanRow
    from db.intake import IncomingRow, IntakeReport, RejectedRow
    from workers.importers.files import SourceFile
    from workers.settings import IntakeSettings


Mode = Literal["accept", "strict", "dry_run"]


@dataclass(frozen=True, slots=True)
class Reading:
    """How a file is read beyond the defaults, and where what was left out is told."""

    settings: Source = field(default_factory=Source)
    #: Take rows whose field has this value; own columns only.
    only: Mapping[str, str] | None = None
    #: A CSV file for the rejects of this file.
    rejects: Path | None = None
    #: Told the name of a question that the source's items do not include, per answer.
    on_passed_over: Callable[[str], None] | None = None


@dataclass(frozen=True, slots=True)
class HumanOrigin:
    """Whose scores a file holds, and of whose answers."""

    source: str
    rater: str
    purpose: str


def submit_file(
    database: Database,
    path: Path,
    *,
    source: str,
    limits: IntakeSettings,
    reading: Reading | None = None,
    mode: Mode = "accept",
    progress: Callable[[int], None] | None = None,
) -> IntakeReport:
    """Accept a file's answers into the ledger; the same file again adds nothing.

    Args:
        database: the ledger.
        path: CSV or JSON lines with our columns, or an export of a learning platform.
        source: where the file comes from; part of every submission's key.
        limits: what the door accepts.
        reading: what is known about the source; by default UTC, all attempts, question ids as items.
        mode: accept the rows that can be; refuse the whole file if one cannot ("strict"); or judge every
            row and undo ("dry_run").
        progress: told how many bytes have been read.

    Raises:
        InvalidInputError: the file as a whole cannot be taken, or in strict mode a row is refused.
        DatabaseUnavailableError: Postgres does not answer; nothing was accepted.
    """
    reading = reading or Reading()
    file = files.inspect(path, encoding=reading.settings.encoding)
    # A file's name may hold bytes that are no text.
    name = path.name.encode("utf-8", "replace").decode()
    header = intake.FileHeader(source, name, file.file_format, file.sha256, file.num_bytes)
    rows = _rows(file, limits, reading, progress)
    with database_errors(), database.connect() as connection:
        report = intake.accept_file(connection, header, rows)
        _refuse_empty(path, report.num_rows, reading.only)
        if reading.rejects is not None:
            write_rejects(reading.rejects, intake.rejects(connection, batch_id=report.batch_id))
        if mode == "strict" and report.examples:
            first = report.examples[0]
            raise InvalidInputError(
                f"{path}: line {first.line}: {first.detail} ({first.reason});"
                f" nothing accepted, {report.num_rejected + report.num_conflicts} row(s) refused"
            )
        if mode != "dry_run":
            connection.commit()
    return report


def _rows(
    file: SourceFile, limits: IntakeSettings, reading: Reading, progress: Callable[[int], None] | None
) -> Iterator[IncomingRow | RejectedRow]:
    if formats.named(file.file_format) is not None:
        if reading.only:
            raise InvalidInputError(f"{file.path}: --only needs our own columns, this is {file.file_format}")
        return exports.submissions(
            file,
            reading.settings,
            max_line_bytes=limits.max_line_bytes,
            max_text_chars=limits.max_text_chars,
            progress=progress,
            on_passed_over=reading.on_passed_over,
        )
    records = files.read_records(
        file,
        required=answers.SUBMISSION_FIELDS,
        max_line_bytes=limits.max_line_bytes,
        only=reading.only,
        progress=progress,
    )
    return answers.submissions(records, max_text_chars=limits.max_text_chars)


def import_human_scores(
    database: Database,
    path: Path,
    *,
    origin: HumanOrigin,
    limits: IntakeSettings,
    only: Mapping[str, str] | None = None,
    dry_run: bool = False,
) -> HumanReport:
    """Accept human scores of known submissions; the same file again adds nothing.

    The file has our own columns, or is Label Studio's JSON export, whose annotators are raters by themselves.

    Raises:
        InvalidInputError: the file as a whole cannot be taken, or nobody is named as its rater.
        DatabaseUnavailableError: Postgres does not answer; nothing was accepted.
    """
    if not origin.rater.strip():
        raise InvalidInputError("the rater is empty: name who gave the scores")
    rows = _human_rows(path, limits, only)
    with database_errors(), database.connect() as connection:
        report = humans.accept_human_scores(
            connection,
            rows,
            source=origin.source,
            rater=origin.rater,
            purpose=origin.purpose,
        )
        _refuse_empty(path, report.num_rows, only)
        if not dry_run:
            connection.commit()
    return report


def _human_rows(
    path: Path, limits: IntakeSettings, only: Mapping[str, str] | None
) -> Iterator[HumanRow | RejectedRow]:
    if label_studio.is_export(path):
        return label_studio.human_scores(path)
    file, longest = files.inspect(path), limits.max_line_bytes
    by_student = frozenset(answers.STUDENT_FIELDS)
    names = files.column_names(file, max_line_bytes=longest)
    wanted = answers.STUDENT_FIELDS if by_student <= names and "response_id" not in names else None
    records = files.read_records(
        file, required=wanted or answers.HUMAN_FIELDS, max_line_bytes=longest, only=only
    )
    return answers.human_scores(records)


def _refuse_empty(path: Path, num_rows: int, only: Mapping[str, str] | None) -> None:
    if num_rows:
        return
    if only:
        wanted = ", ".join(f"{name}={value}" for name, value in only.items())
        raise InvalidInputError(f"{path}: no row has {wanted}")
    raise InvalidInputError(f"{path}: the file has a header and no rows")
