"""The file that remembers an export of scores: how far it came, and with which filters.

It is JSON that a person can read. A bare number is of an earlier version, and counts as made without filters.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from scoring.errors import InvalidInputError
from workers.replacing import replaced

if TYPE_CHECKING:
    from pathlib import Path

    from db.outgoing import Wanted


@dataclass(frozen=True, slots=True)
class Filters:
    """Which scores an export was about: with other ones a cursor would leave scores out."""

    source: str | None = None
    item: str | None = None
    batch: int | None = None
    with_students: bool = False

    @classmethod
    def of(cls, wanted: Wanted) -> Filters:
        """The filters among what is wanted."""
        return cls(wanted.source, wanted.item_id, wanted.batch_id, wanted.with_students)

    def __str__(self) -> str:
        told = [
            f"--{name} {value}" for name, value in asdict(self).items() if name != "with_students" and value
        ]
        return " ".join([*told, *(["--with-students"] if self.with_students else [])]) or "no filter"


def read_cursor(path: Path, filters: Filters) -> int | None:
    """The cursor that a file holds; None where there is no file yet.

    Raises:
        InvalidInputError: the file cannot be read, holds no cursor, or one that was made with other filters.
    """
    try:
        content = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{path}: cannot be read as a cursor: {error}") from error
    try:
        cursor, before = _parsed(json.loads(content))
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidInputError(f"{path}: holds no cursor; delete it to export everything once") from error
    if before != filters:
        raise InvalidInputError(
            f"{path}: was made with {before}, this export is with {filters}: name another file,"
            " or delete it to export everything once"
        )
    return cursor


def write_cursor(path: Path, cursor: int, filters: Filters) -> None:
    """Remember a cursor and the filters it was made with.

    Raises:
        InvalidInputError: the file cannot be written.
    """
    with replaced(path) as stream:
        stream.write(json.dumps({"cursor": cursor, **asdict(filters)}, ensure_ascii=False, indent=2) + "\n")


def _parsed(held: Any) -> tuple[int, Filters]:
    if not isinstance(held, dict):
        held = {"cursor": held}
    cursor = held.pop("cursor", None)
    if type(cursor) is not int or not 0 <= cursor < 10**18:
        raise ValueError("no cursor")
    return cursor, Filters(**held)
