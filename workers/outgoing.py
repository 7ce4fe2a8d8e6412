"""Scores into a file that another system takes: CSV safe for spreadsheets, or JSON lines; all or nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, TextIO

from sqlalchemy import text

from db import outgoing
from scoring.errors import InvalidInputError
from workers.replacing import replaced
from workers.spreadsheets import write_rows
from workers.writer import database_errors

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from typing import Any

    from sqlalchemy import Engine as Database

    from db.outgoing import Wanted

FileFormat = Literal["csv", "jsonl"]


def export_scores(
    database: Database, path: Path, wanted: Wanted, *, file_format: FileFormat, cursor: Path | None = None
) -> int:
    """Write the scores that count now; with a cursor file only those that changed since it was written.

    The scores and the next cursor are from one moment. The cursor is written after the scores: whoever is
    stopped in between gets the same rows again.

    Args:
        database: the ledger.
        path: the file; an older one is replaced when all is written.
        wanted: which scores.
        file_format: CSV with a header, or one JSON object a line.
        cursor: a file that remembers; made at the first time, when everything goes out.

    Returns:
        How many rows were written.

    Raises:
        InvalidInputError: a file cannot be written, or the cursor is none of this database.
        DatabaseUnavailableError: Postgres does not answer.
    """
    since = None if cursor is None else _read_cursor(cursor)
    with database_errors(), database.connect() as connection:
        connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
        following = outgoing.cursor(connection)
        if since is not None:
            try:
                outgoing.check_cursor(connection, since)
            except outgoing.CursorError as error:
                raise InvalidInputError(f"{cursor}: {error}") from error
        rows = outgoing.outgoing_scores(connection, replace(wanted, since=since))
        with replaced(path) as stream:
            num_rows = _write(stream, rows, wanted, file_format)
    if cursor is not None:
        with replaced(cursor) as stream:
            stream.write(f"{following}\n")
    return num_rows


def _write(stream: TextIO, rows: Iterable[dict[str, Any]], wanted: Wanted, file_format: FileFormat) -> int:
    columns = (("student_id",) if wanted.with_students else ()) + outgoing.COLUMNS
    if file_format == "csv":
        return write_rows(stream, columns, ([_plain(row[name]) for name in columns] for row in rows))
    num_rows = 0
    for row in rows:
        stream.write(json.dumps({name: _plain(row[name]) for name in columns}, ensure_ascii=False) + "\n")
        num_rows += 1
    return num_rows


def _plain(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else value


def _read_cursor(path: Path) -> int | None:
    try:
        content = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{path}: cannot be read as a cursor: {error}") from error
    if not content.isdigit() or len(content) > 18:
        raise InvalidInputError(f"{path}: holds no cursor; delete it to export everything once")
    return int(content)
