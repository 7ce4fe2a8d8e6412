"""Scores into a file that another system takes: CSV safe for spreadsheets, JSON lines, or Parquet.

A file is whole or not there at all.
"""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Literal, TextIO

from sqlalchemy import text

from db import outgoing
from scoring.errors import InvalidInputError
from workers.arrow import arrow
from workers.cursors import Filters, read_cursor, write_cursor
from workers.replacing import replaced, written_aside
from workers.spreadsheets import write_rows
from workers.writer import database_errors

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path
    from typing import Any

    from sqlalchemy import Engine as Database

    from db.outgoing import Wanted

FileFormat = Literal["csv", "jsonl", "parquet"]

_ROWS_AT_ONCE = 10_000
#: Types of the columns that are no text.
_ARROW_TYPES = {"attempt": "int32", "level": "int16", "confidence": "float32", "scorer_id": "int64"}


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
        file_format: CSV with a header, one JSON object a line, or Parquet.
        cursor: a file that remembers how far and which scores; made at the first time, when everything
            goes out.

    Returns:
        How many rows were written.

    Raises:
        InvalidInputError: a file cannot be written, or the cursor is not of this database, or not of these
            filters.
        DatabaseUnavailableError: Postgres does not answer.
    """
    filters = Filters.of(wanted)
    since = None if cursor is None else read_cursor(cursor, filters)
    with database_errors(), database.connect() as connection:
        connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
        following = outgoing.cursor(connection)
        if since is not None:
            try:
                outgoing.check_cursor(connection, since)
            except outgoing.CursorError as error:
                raise InvalidInputError(f"{cursor}: {error}") from error
        rows = outgoing.outgoing_scores(connection, replace(wanted, since=since))
        if file_format == "parquet":
            num_rows = _write_parquet(path, rows, _columns(wanted))
        else:
            with replaced(path) as stream:
                num_rows = _write(stream, rows, _columns(wanted), file_format)
    if cursor is not None:
        write_cursor(cursor, following, filters)
    return num_rows


def _columns(wanted: Wanted) -> tuple[str, ...]:
    return (("student_id",) if wanted.with_students else ()) + outgoing.COLUMNS


def _write(
    stream: TextIO, rows: Iterable[dict[str, Any]], columns: Sequence[str], file_format: FileFormat
) -> int:
    if file_format == "csv":
        return write_rows(stream, columns, ([_plain(row[name]) for name in columns] for row in rows))
    num_rows = 0
    for row in rows:
        stream.write(json.dumps({name: _plain(row[name]) for name in columns}, ensure_ascii=False) + "\n")
        num_rows += 1
    return num_rows


def _write_parquet(path: Path, rows: Iterable[dict[str, Any]], columns: Sequence[str]) -> int:
    pyarrow, parquet = (arrow(name, wanted_for=path) for name in ("pyarrow", "pyarrow.parquet"))
    types = {name: pyarrow.type_for_alias(alias) for name, alias in _ARROW_TYPES.items()}
    types["changed_at"] = pyarrow.timestamp("us", tz="UTC")
    schema = pyarrow.schema([(name, types.get(name, pyarrow.string())) for name in columns])
    num_rows, following = 0, iter(rows)
    try:
        with written_aside(path) as aside, parquet.ParquetWriter(aside, schema, compression="zstd") as writer:
            while batch := list(islice(following, _ROWS_AT_ONCE)):
                plain = [{name: row[name] for name in columns} for row in batch]
                writer.write_table(pyarrow.Table.from_pylist(plain, schema=schema))
                num_rows += len(batch)
    except OSError as error:
        raise InvalidInputError(f"{path}: cannot be written: {error.strerror}") from error
    return num_rows


def _plain(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else value
