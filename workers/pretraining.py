"""What a backbone is pre-trained on: the texts of a folder of files, or of one; no item, score or student."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scoring.errors import InvalidInputError
from workers.importers import files
from workers.importers.files import Record

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from workers.settings import Settings

#: A text a line, and tables with a column of texts.
_TABLES = (".csv", ".tsv", ".jsonl", ".ndjson")
_SUFFIXES = (".txt", *_TABLES)


def read_texts(path: Path, settings: Settings, *, column: str = "text") -> Iterator[str]:
    """Every text of a file, or of all files in a folder and below it, by name.

    Args:
        path: a file, or a folder of .txt (an answer a line), .csv, .tsv, .jsonl
        settings: how long a line and a text may be
        column: where tables have their texts

    Raises:
        InvalidInputError: nothing to read, a file that cannot be read, a table without this column.
    """
    for file in _files(path):
        if file.suffix.lower() == ".txt":
            yield from _lines(file, settings)
        else:
            yield from _cells(file, settings, column)


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(one for one in path.rglob("*") if one.is_file() and one.suffix.lower() in _SUFFIXES)
    if not found:
        raise InvalidInputError(f"{path}: holds no file that ends in {', '.join(_SUFFIXES)}")
    return found


def _lines(file: Path, settings: Settings) -> Iterator[str]:
    source = files.inspect(file)
    with file.open(encoding=source.encoding) as stream:
        try:
            for line in stream:
                yield line[: settings.intake.max_text_chars]
        except UnicodeDecodeError as error:
            raise InvalidInputError(f"{file}: is not {source.encoding}; save it as UTF-8") from error


def _cells(file: Path, settings: Settings, column: str) -> Iterator[str]:
    source = files.inspect(file)
    records = files.read_records(source, required=(column,), max_line_bytes=settings.intake.max_line_bytes)
    for record in records:
        if isinstance(record, Record):
            yield str(record.fields[column])[: settings.intake.max_text_chars]
