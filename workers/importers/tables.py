"""A delimited file as a header and rows of cells by position: names may repeat, headers may span lines."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from scoring.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_DELIMITERS = ",;\t|"
#: One cell at most; a longer answer is refused by the door's own limit, this one guards memory.
_MAX_CELL_CHARS = 4_000_000


@dataclass(frozen=True, slots=True)
class Table:
    """The cells of the header, and of each row with its first line; the rows can be read once."""

    header: tuple[str, ...]
    rows: Iterator[tuple[int, list[str]]]


def open_table(lines: Iterable[str], path: Path) -> Table:
    """Read the header, with the delimiter that cuts it into the most cells.

    Raises:
        InvalidInputError: the header cannot be cut into cells; later, while the rows are read: quotes that
            never close, or a carriage return outside quotes.
    """
    csv.field_size_limit(_MAX_CELL_CHARS)
    stream, read = iter(lines), list[str]()
    cuts = [cut for delimiter in _DELIMITERS if (cut := _cut_header(stream, read, delimiter)) is not None]
    if not cuts:
        raise InvalidInputError(f"{path}: line 1: the header cannot be read; check its quotes")
    header, num_lines, delimiter = max(cuts, key=lambda cut: len(cut[0]))
    rest = chain(read[num_lines:], stream)
    cells = tuple(name.strip().removeprefix("\ufeff") for name in header)
    return Table(cells, _rows(rest, path, delimiter, num_lines))


def _cut_header(stream: Iterator[str], read: list[str], delimiter: str) -> tuple[list[str], int, str] | None:
    num_lines = 0

    def replayed() -> Iterator[str]:
        nonlocal num_lines
        while True:
            if num_lines == len(read):
                following = next(stream, None)
                if following is None:
                    return
                read.append(following)
            num_lines += 1
            yield read[num_lines - 1]

    try:
        for cells in csv.reader(replayed(), delimiter=delimiter, strict=True):
            if cells:
                return cells, num_lines, delimiter
    except csv.Error:
        return None
    return None


def _rows(
    lines: Iterable[str], path: Path, delimiter: str, num_before: int
) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    line = num_before + 1
    try:
        for cells in reader:
            if cells:
                yield line, cells
            line = num_before + reader.line_num + 1
    except csv.Error as error:
        told = (
            "a carriage return outside quotes; save the file with LF or CRLF line ends"
            if "new-line character" in str(error)
            else f"{error}; check the quotes of the record that starts there"
        )
        raise InvalidInputError(f"{path}: line {line}: {told}") from error
