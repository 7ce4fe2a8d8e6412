"""CSV that spreadsheets may open: cells that a spreadsheet would run as a formula are made plain text."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: What spreadsheets take for the begin of a formula, also behind white space.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")


def plain_cell(value: object) -> object:
    """A value as a spreadsheet may see it: text that would run gets an apostrophe before it.

    Numbers stay numbers: a negative one is no formula.
    """
    if isinstance(value, str) and value.lstrip(" \n").startswith(_FORMULA):
        return f"'{value}"
    return value


def write_rows(stream: TextIO, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> int:
    """Write a header and rows as CSV; how many rows there were."""
    writer = csv.writer(stream, lineterminator="\r\n")
    writer.writerow(columns)
    num_rows = 0
    for row in rows:
        writer.writerow([plain_cell(value) for value in row])
        num_rows += 1
    return num_rows
