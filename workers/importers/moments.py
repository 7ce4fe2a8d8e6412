"""Dates as learning platforms print them, in the language and the time zone of whoever downloaded them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from workers.importers.fields import FieldFault

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

#: January to December: English, German, French, Spanish, Italian, Dutch, Portuguese.
_MONTHS = (
    "january januar janvier enero gennaio januari janeiro jänner",
    "february februar février febrero febbraio februari fevereiro feber",
    "march märz mars marzo maart março",
    "april avril abril aprile",
    "may mai mayo maggio mei maio",
    "june juni juin junio giugno junho",
    "july juli juillet julio luglio julho",
    "august août agosto augustus",
    "september septembre septiembre settembre setembro",
    "october oktober octobre octubre ottobre outubro",
    "november novembre noviembre novembro",
    "december dezember décembre diciembre dicembre dezembro",
)
_NUMBER = {name: number for number, names in enumerate(_MONTHS, start=1) for name in names.split()}

_WORDY = re.compile(
    r"""(?P<day>\d{1,2})\.?\s+(?:de\s+)?(?P<month>[^\W\d_]{3,})\.?\s+(?:de\s+)?(?P<year>\d{4})
        \D{1,6}(?P<hour>\d{1,2})[:.](?P<minute>\d{2})(?:[:.](?P<second>\d{2}))?\s*(?P<half>[ap]\.?m\.?)?$""",
    re.VERBOSE | re.IGNORECASE,
)
_ISO = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?)\s*(\S*)$")


def exported_moment(cell: str, zone: ZoneInfo, date_format: str | None, *, name: str) -> datetime | None:
    """A moment in UTC; None for an empty cell or a dash.

    Args:
        cell: ISO 8601 with or without an offset, `1 March 2026, 8:30 AM` in seven languages, or anything
            that `date_format` reads.
        zone: the source's time zone, for cells that name none.
        date_format: a strptime pattern, needed where day and month are both numbers: 2/3/2026 is two days.
        name: the column, for the message.

    Raises:
        FieldFault: the cell is no date that can be read without doubt.
    """
    cell = " ".join(cell.split())
    if cell in ("", "-"):
        return None
    try:
        found = datetime.strptime(cell, date_format) if date_format else _iso(cell, zone) or _wordy(cell)  # noqa: DTZ007
        if found is not None:
            return (found if found.tzinfo else found.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise FieldFault(
        "date_unreadable", f"{name} {cell[:40]!r} cannot be read; set date_format for this source"
    )


def _iso(cell: str, zone: ZoneInfo) -> datetime | None:
    parts = _ISO.fullmatch(cell)
    if parts is None:
        return None
    date, clock, offset = parts.groups()
    if offset in ("UTC", "GMT", "Z"):
        offset = "+00:00"
    found = datetime.fromisoformat(f"{date}T{clock}")
    if offset and offset in {found.replace(tzinfo=zone, fold=fold).tzname() for fold in (0, 1)}:
        later = found.replace(tzinfo=zone, fold=1)
        return later if later.tzname() == offset else found.replace(tzinfo=zone)
    return datetime.fromisoformat(f"{date}T{clock}{offset}")


def _wordy(cell: str) -> datetime | None:
    parts = _WORDY.search(cell)
    if parts is None or (month := _month(parts["month"].casefold())) is None:
        return None
    hour = int(parts["hour"])
    if parts["half"]:
        hour = hour % 12 + (12 if parts["half"][0] in "pP" else 0)
    return datetime(  # noqa: DTZ001 (the caller knows the zone)
        int(parts["year"]), month, int(parts["day"]), hour, int(parts["minute"]), int(parts["second"] or 0)
    )


def _month(word: str) -> int | None:
    numbers = {number for name, number in _NUMBER.items() if name == word} or {
        number for name, number in _NUMBER.items() if name.startswith(word)
    }
    return numbers.pop() if len(numbers) == 1 else None
