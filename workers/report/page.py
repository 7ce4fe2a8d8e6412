"""What a page consists of: sections of tables and figures. Knows neither HTML nor the ledger."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markupsafe import Markup


class Mark(StrEnum):
    """What a cell or a remark wants from its reader; a word always says the same as the colour."""

    PLAIN = "plain"
    GOOD = "good"
    UNSURE = "unsure"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell: what it says, a drawing that says the same, and whether it needs a look."""

    text: str
    mark: Mark = Mark.PLAIN
    drawing: Markup | None = None


@dataclass(frozen=True, slots=True)
class Column:
    """One column; numbers stand to the right."""

    name: str
    is_number: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under a caption, and the SELECT that gives them; the first `num_heads` cells name the row."""

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    select: str | None = None
    note: str = ""
    num_heads: int = 1


@dataclass(frozen=True, slots=True)
class Figure:
    """A drawing with what it says in words."""

    caption: str
    drawing: Markup


@dataclass(frozen=True, slots=True)
class Section:
    """One part of the page, by its own link."""

    anchor: str
    title: str
    lead: str
    blocks: Sequence[Table | Figure]


@dataclass(frozen=True, slots=True)
class Remark:
    """One thing that should be seen first, and the section that tells more."""

    text: str
    anchor: str
    mark: Mark


@dataclass(frozen=True, slots=True)
class Part:
    """A section and what of it should be seen first."""

    section: Section
    remarks: Sequence[Remark] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """A whole page."""

    title: str
    made_at: datetime
    parts: Sequence[Part] = field(default=())

    @property
    def remarks(self) -> list[Remark]:
        """What should be seen first, the worst at the top."""
        found = [remark for part in self.parts for remark in part.remarks]
        return sorted(found, key=lambda remark: remark.mark is not Mark.BAD)


def counted(count: int, one: str, several: str) -> str:
    """How many, with the words for one or for several."""
    return f"{count:,} {one if count == 1 else several}"


def number(value: float | None, *, digits: int = 0) -> Cell:
    """A number, or a dash where there is none."""
    if value is None or value != value:  # noqa: PLR0124 (nan)
        return Cell("–")
    return Cell(f"{value:,.{digits}f}".replace("-", "−"))


def moment(value: datetime | None) -> Cell:
    """A moment in UTC, or a dash."""
    return Cell("–" if value is None else f"{value.astimezone(UTC):%Y-%m-%d %H:%M}")
