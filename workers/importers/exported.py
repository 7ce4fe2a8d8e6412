"""One answer as a learning platform exports it, and what every reader of such exports offers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from db.intake import RejectedRow
from workers.importers.fields import FieldFault

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from workers.importers.sources import Source
    from workers.importers.tables import Table

_MAX_ATTEMPT = 2**31 - 1


@dataclass(frozen=True, slots=True)
class ExportedAnswer:
    """One answer of one student to one question, as far as the export tells."""

    line: int
    student: str
    #: Names this answer among the student's own: it makes the same row of another night the same answer.
    key: str
    #: What the question goes by, the best name first.
    questions: tuple[str, ...]
    text: str
    attempt: int = 1
    submitted_at: datetime | None = None


class ExportFormat(Protocol):
    """One kind of export; a module that has these three is one."""

    @property
    def NAME(self) -> str:  # noqa: N802 (a module's constant)
        """What the ledger calls it."""

    def recognises(self, header: Sequence[str]) -> bool:
        """Whether a header is of this kind."""

    def read(self, table: Table, source: Source) -> Iterator[ExportedAnswer | RejectedRow]:
        """The answers, in the order of the file; what was not administered is passed over."""


def wrong_width(line: int, cells: Sequence[str], table: Table) -> RejectedRow:
    """The reject of a row that has not as many cells as the header: which is which cannot be known."""
    return RejectedRow(line, "wrong_columns", f"{len(cells)} columns instead of {len(table.header)}")


def rejected(line: int, fault: FieldFault) -> RejectedRow:
    """The reject that a fault becomes."""
    return RejectedRow(line, fault.reason, fault.detail)


def required(cell: str, reason: str, detail: str) -> str:
    """A cell that must not be empty.

    Raises:
        FieldFault: it is.
    """
    if not cell.strip():
        raise FieldFault(reason, detail)
    return cell.strip()


def attempt_number(cell: str) -> int:
    """An attempt's number; an empty cell is the first.

    Raises:
        FieldFault: it is no whole number from 1.
    """
    cell = cell.strip() or "1"
    digits = cell.lstrip("0") if cell.isascii() and cell.isdigit() else ""
    # So many that int() takes its time are none.
    if not digits or len(digits) > 10 or int(digits) > _MAX_ATTEMPT:
        raise FieldFault("attempt_invalid", f"the attempt is not a whole number from 1 to {_MAX_ATTEMPT}")
    return int(digits)
