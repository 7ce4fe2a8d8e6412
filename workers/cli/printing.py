"""What verbs print: a table or a sentence for people, one JSON value for programs."""

from __future__ import annotations

import dataclasses
import json
import sys
from datetime import date, time
from enum import Enum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console
    from rich.progress import Progress


#: Where no person looks, a table's lines are not folded: programs search them.
_FILE_WIDTH = 1000


@cache
def _console(*, stderr: bool) -> Console:
    # rich takes longer to import than `--help` may take.
    from rich.console import Console

    # An item may be called "[b]" or ":smile:".
    console = Console(stderr=stderr, soft_wrap=True, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = _FILE_WIDTH
    return console


def say(text: str = "") -> None:
    """Print a line that was asked for, on standard output."""
    _console(stderr=False).print(text)


def remark(text: str, *, style: str | None = None) -> None:
    """Print a remark on standard error: standard output stays clean for what was asked for."""
    _console(stderr=True).print(text, style=style)


def print_json(value: object) -> None:
    """Print one JSON value on one line."""
    sys.stdout.write(json.dumps(value, default=_plain, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None
) -> None:
    """Print a table; numbers stand to the right."""
    from rich.table import Table

    filled = [[_cell(value) for value in row] for row in rows]
    numeric = [all(_is_number(row[at]) for row in filled) for at in range(len(columns))]
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for name, right in zip(columns, numeric, strict=True):
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    for row in filled:
        table.add_row(*row)
    _console(stderr=False).print(table, soft_wrap=False)


def progress_bar(*, unit: str = "") -> Progress:
    """A progress bar on standard error; silent where that is no terminal."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
    )

    remarks = _console(stderr=True)
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        MofNCompleteColumn() if unit else TaskProgressColumn(),
        TextColumn(unit, markup=False),
        TimeElapsedColumn(),
        console=remarks,
        disable=not remarks.is_terminal,
    )


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}"
    return str(value)


def _is_number(cell: str) -> bool:
    return cell == "-" or cell.replace(".", "", 1).replace("-", "", 1).replace(",", "").rstrip("%").isdigit()


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, Path | UUID):
        return str(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, set | frozenset | tuple):
        return list(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
