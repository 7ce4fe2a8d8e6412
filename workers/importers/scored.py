"""Records become levels side by side: a machine's, a person's, and a second person's where there is one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from db.intake import RejectedRow
from workers.importers.fields import FieldFault, identifier, optional_identifier, whole_number

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from workers.importers.files import Record

#: A level of a file is at most this; no rubric has more levels.
_MAX_LEVEL = 99


@dataclass(frozen=True, slots=True)
class Columns:
    """What a scored file calls its columns."""

    machine: str = "machine"
    human: str = "human"
    second: str = "second"
    groups: tuple[str, ...] = ()

    def required(self) -> tuple[str, ...]:
        """The columns that every file must have."""
        return ("response_id", self.machine, self.human, *self.groups)


@dataclass(frozen=True, slots=True)
class ScoredRow:
    """One trait of one answer: what the machine and people gave it, and the student's groups."""

    line: int
    item_id: str
    response_id: str
    trait: str
    machine: int
    human: int
    second: int | None
    groups: Mapping[str, str] = field(default_factory=dict)


def scored(records: Iterable[Record | RejectedRow], columns: Columns) -> Iterator[ScoredRow | RejectedRow]:
    """Levels side by side; a file that names no item or trait speaks of one."""
    seen: set[tuple[str, str, str]] = set()
    for record in records:
        if isinstance(record, RejectedRow):
            yield record
            continue
        try:
            row = _scored(record, columns)
        except FieldFault as fault:
            yield RejectedRow(record.line, fault.reason, fault.detail)
            continue
        key = row.item_id, row.response_id, row.trait
        if key in seen:
            yield RejectedRow(row.line, "repeated", f"response {row.response_id}, trait {row.trait}: twice")
            continue
        seen.add(key)
        yield row


def grouped(record: Record, names: Sequence[str]) -> dict[str, str]:
    """The groups that a record names; "" where it leaves one empty."""
    return {name: optional_identifier(record.fields, name) or "" for name in names}


def _scored(record: Record, columns: Columns) -> ScoredRow:
    fields = record.fields
    return ScoredRow(
        line=record.line,
        item_id=optional_identifier(fields, "item_id") or "file",
        response_id=identifier(fields, "response_id"),
        trait=optional_identifier(fields, "trait") or "overall",
        machine=_level(fields, columns.machine),
        human=_level(fields, columns.human),
        second=None if fields.get(columns.second) in {None, ""} else _level(fields, columns.second),
        groups=grouped(record, columns.groups),
    )


def _level(fields: Mapping[str, object], name: str) -> int:
    level = whole_number(fields, name, least=0)
    if level > _MAX_LEVEL:
        raise FieldFault(f"{name}_invalid", f"{name} is above {_MAX_LEVEL}")
    return level
