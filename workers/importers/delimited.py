"""Comma, semicolon, tab or bar separated values with a header line; records may span lines inside quotes."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

from scoring.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

#: One cell at most; a longer answer is refused by the door's own limit, this one guards memory.
MAX_CELL_CHARS = 4_000_000
_DELIMITERS = ",;\t|"

Fault = tuple[str, str]


def read(
    lines: Iterable[str], path: Path, required: tuple[str, ...]
) -> Iterator[tuple[int, dict[str, object], Fault | None]]:
    """Yield (first line, fields, fault) of each record.

    Raises:
        InvalidInputError: no header with the required columns, or quotes that never close.
    """
    csv.field_size_limit(MAX_CELL_CHARS)
    stream = iter(lines)
    header_line = next(stream, "")
    delimiter = _delimiter(header_line, required)
    line = 1
    try:
        header = [
            name.strip() for name in next(csv.reader([header_line], delimiter=delimiter, strict=True), [])
        ]
        _check_header(header, path, required)
        reader = csv.reader(stream, delimiter=delimiter, strict=True)
        line = 2
        for cells in reader:
            if cells:
                yield line, dict(zip(header, cells, strict=False)), _fault(cells, header)
            line = reader.line_num + 2
    except csv.Error as error:
        raise InvalidInputError(f"{path}: line {line}: {_explained(error)}") from error


def _delimiter(header_line: str, required: tuple[str, ...]) -> str:
    """The one that shows the most of the required names; among equals, the one that stands there most."""

    def shown(delimiter: str) -> tuple[int, int]:
        names = {cell.strip(' "\r\n') for cell in header_line.split(delimiter)}
        return len(names & set(required)), header_line.count(delimiter)

    return max(_DELIMITERS, key=shown)


def _check_header(header: list[str], path: Path, required: tuple[str, ...]) -> None:
    missing = [name for name in required if name not in header]
    if missing == list(required):
        # Where no name is known this may be no header but somebody's answer: it is not shown.
        raise InvalidInputError(
            f"{path}: line 1: missing column(s) {', '.join(missing)}; the first line must name the columns"
        )
    if missing:
        raise InvalidInputError(
            f"{path}: line 1: missing column(s) {', '.join(missing)}; found {', '.join(header)[:200]}"
        )
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise InvalidInputError(f"{path}: line 1: column(s) {', '.join(twice)[:200]} stand twice")


def _explained(error: csv.Error) -> str:
    if "new-line character" in str(error):
        return "a carriage return outside quotes; save the file with LF or CRLF line ends"
    return f"{error}; check the quotes of the record that starts there"


def _fault(cells: list[str], header: list[str]) -> Fault | None:
    if len(cells) == len(header):
        return None
    return "wrong_columns", f"{len(cells)} columns instead of {len(header)}"
