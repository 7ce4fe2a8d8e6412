"""Options that several verbs share, checked before anything is opened: numbers, sources, reasons."""

from __future__ import annotations

from typing import Annotated

import typer

#: As long as every other name that is part of a key.
_MAX_NAME = 200

#: The largest number of a bigint, and so of any row.
MAX_NUMBER = 2**63 - 1

OneBatch = Annotated[int | None, typer.Option(min=1, max=MAX_NUMBER, help="one batch only")]
RowLimit = Annotated[int, typer.Option(min=1, max=MAX_NUMBER, help="rows at most")]


def _name(value: str | None) -> str | None:
    if value is not None and not (0 < len(value) <= _MAX_NAME and value.isprintable()):
        raise typer.BadParameter(f"1 to {_MAX_NAME} characters, none of them invisible")
    return value


def some_words(value: str | None) -> str | None:
    """A reason, unless there is nothing in it."""
    if value is not None and not value.strip():
        raise typer.BadParameter("some words are needed: they are what is left to read later")
    return value


Source = Annotated[
    str, typer.Option(help="where the file comes from; part of every answer's key", callback=_name)
]
