"""What is known about each source of files: its time zone, its items, which attempts count.

A TOML file holds one table a source; nothing here reads answers.
"""

from __future__ import annotations

import csv
import json
import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from scoring.errors import InvalidInputError
from workers.importers import encodings, markup

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

Attempts = Literal["all", "first", "last"]

#: Postgres's calendar goes back twice as far.
_MAX_DAYS = 1_000_000


@dataclass(frozen=True, slots=True)
class Source:
    """How to read the exports of one source."""

    zone: ZoneInfo = field(default_factory=lambda: ZoneInfo("UTC"))
    attempts: Attempts = "all"
    #: Question id or text, as `markup.words` gives it -> item id; None: question ids are item ids.
    items: Mapping[str, str] | None = None
    encoding: str | None = None
    student_column: str | None = None
    date_format: str | None = None
    #: Answers are erased after so many days; None: they are kept.
    keep_days: int | None = None

    def item_of(self, names: Sequence[str]) -> str | None:
        """The item of a question that goes by any of these names; None: not one that we score."""
        if self.items is None:
            return names[0]
        return next((self.items[key] for name in names if (key := markup.words(name)) in self.items), None)


class _Entry(BaseModel):
    """One table of the file as it is written."""

    model_config = ConfigDict(extra="forbid")

    time_zone: str = "UTC"
    attempts: Attempts = "all"
    items: str | None = None
    encoding: str | None = None
    student_column: str | None = None
    date_format: str | None = None
    keep_days: int | None = Field(None, ge=1, le=_MAX_DAYS)


def source_names(path: Path) -> list[str]:
    """The sources that a file speaks of.

    Raises:
        InvalidInputError: the file cannot be read.
    """
    return sorted(_tables(path))


def load_source(path: Path | None, name: str) -> Source:
    """Read what a file says about one source; without a file, or without its table, the defaults.

    Args:
        path: TOML, `[name]` for each source; `items` in it is a file beside it.
        name: the source.

    Raises:
        InvalidInputError: the file cannot be read, or a value has no meaning.
    """
    if path is None:
        return Source()
    tables = _tables(path)
    if name not in tables:
        raise InvalidInputError(f"{path}: no table [{name}]; found {', '.join(sorted(tables)) or 'none'}")
    try:
        entry = _Entry.model_validate(tables[name])
        zone = ZoneInfo(entry.time_zone)
    except ValidationError as error:
        fault = error.errors(include_input=False)[0]
        raise InvalidInputError(
            f"{path}: [{name}] {'.'.join(map(str, fault['loc']))}: {fault['msg']}"
        ) from error
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise InvalidInputError(
            f"{path}: [{name}] time_zone {entry.time_zone}: unknown; write one such as Europe/Berlin"
        ) from error
    return Source(
        zone=zone,
        attempts=entry.attempts,
        items=None if entry.items is None else read_item_map(path.parent / entry.items),
        encoding=None if entry.encoding is None else encodings.known(entry.encoding),
        student_column=entry.student_column,
        date_format=entry.date_format,
        keep_days=entry.keep_days,
    )


def _tables(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidInputError(f"{path}: cannot be read as TOML: {error}") from error


def read_item_map(path: Path) -> dict[str, str]:
    """Read which item each question is: a JSON object, or CSV with the columns `question` and `item_id`.

    Raises:
        InvalidInputError: the file cannot be read, or one question is given two items.
    """
    try:
        content = path.read_text(encoding="utf-8-sig")
        pairs = _json_pairs(content) if content.lstrip().startswith("{") else _csv_pairs(content)
    except (OSError, ValueError, csv.Error) as error:
        raise InvalidInputError(f"{path}: cannot be read: {error}") from error
    found: dict[str, str] = {}
    for question, item_id in pairs:
        if found.setdefault(markup.words(question), item_id) != item_id:
            raise InvalidInputError(f"{path}: question {question[:60]!r} is given two items")
    if not found:
        raise InvalidInputError(f"{path}: names no question; write the columns question,item_id")
    return found


def _json_pairs(content: str) -> list[tuple[str, str]]:
    return [(str(question), str(item_id)) for question, item_id in json.loads(content).items()]


def _csv_pairs(content: str) -> list[tuple[str, str]]:
    rows = csv.DictReader(content.splitlines(keepends=True), strict=True)
    if not {"question", "item_id"} <= set(rows.fieldnames or ()):
        raise ValueError("the first line must name the columns question,item_id")
    return [(row["question"], row["item_id"].strip()) for row in rows if row["question"] and row["item_id"]]
