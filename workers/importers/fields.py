"""Single fields of a record: each comes out right or raises a fault with a reason; texts are never quoted."""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_MAX_ID_CHARS = 200
_MAX_INT = 2**31 - 1


class FieldFault(Exception):  # noqa: N818 (not an error of the program: it becomes a row of rejects)
    """A field that cannot be taken: `reason` is a word for counting, `detail` one for reading."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


def identifier(fields: Mapping[str, object], name: str) -> str:
    """A non-empty id of at most 200 printable characters."""
    value = optional_identifier(fields, name)
    if value is None:
        raise FieldFault(f"{name}_missing", f"{name} is empty")
    return value


def optional_identifier(fields: Mapping[str, object], name: str) -> str | None:
    """An id, or None where the field is missing or empty."""
    value = fields.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value) if abs(value) < 10**30 else "9" * (_MAX_ID_CHARS + 1)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise FieldFault(f"{name}_invalid", f"{name} is not a string")
    value = value.strip()
    if len(value) > _MAX_ID_CHARS:
        raise FieldFault(f"{name}_invalid", f"{name} is longer than {_MAX_ID_CHARS} characters")
    # Most ids are plain; looking at their letters one by one is what an import spent most of its time on.
    is_plain = value.isascii() and value.isprintable()
    if not is_plain and any(unicodedata.category(character) in ("Cc", "Cs") for character in value):
        raise FieldFault(f"{name}_invalid", f"{name} holds control characters")
    return value or None


def whole_number(fields: Mapping[str, object], name: str, *, least: int, default: int | None = None) -> int:
    """A whole number from `least` to 2^31-1."""
    value = fields.get(name)
    if value is None or value == "":
        if default is None:
            raise FieldFault(f"{name}_missing", f"{name} is empty")
        return default
    try:
        # int() would take 1_000 too.
        number = int(value) if isinstance(value, str) and "_" not in value else value
    except ValueError:
        number = None
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    if not isinstance(number, int) or isinstance(number, bool):
        raise FieldFault(f"{name}_invalid", f"{name} is not a whole number")
    if not least <= number <= _MAX_INT:
        raise FieldFault(f"{name}_invalid", f"{name} is not between {least} and {_MAX_INT}")
    return number


def answer_text(fields: Mapping[str, object], *, max_chars: int) -> str:
    """The answer as typed; what Postgres cannot hold (NUL, lone surrogates) is taken out."""
    value = fields.get("text")
    if value is None:
        raise FieldFault("text_missing", "text is missing; a blank answer is an empty string")
    if not isinstance(value, str):
        raise FieldFault("text_invalid", "text is not a string")
    if len(value) > max_chars:
        raise FieldFault("text_too_long", f"text has {len(value):,} characters, {max_chars:,} are allowed")
    return value.replace("\x00", "").encode("utf-8", "replace").decode("utf-8")


def moment(fields: Mapping[str, object], name: str) -> datetime | None:
    """An ISO 8601 moment; without a time zone it counts as UTC."""
    value = fields.get(name)
    if value is None or value == "":
        return None
    try:
        found = datetime.fromisoformat(str(value))
        found = found if found.tzinfo is not None else found.replace(tzinfo=UTC)
        return found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise FieldFault(
            f"{name}_invalid", f"{name} is not an ISO 8601 date such as 2026-03-01T08:30:00Z"
        ) from None
