"""One JSON object a line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

Fault = tuple[str, str]


def read(
    lines: Iterable[str], path: Path, required: tuple[str, ...]
) -> Iterator[tuple[int, dict[str, object], Fault | None]]:
    """Yield (line, fields, fault) of each record; blank lines are passed over."""
    del path  # a fault of one line never condemns the file
    for line, content in enumerate(lines, start=1):
        if not content.strip():
            continue
        fields, fault = _parse(content)
        if fault is None:
            missing = [name for name in required if fields.get(name) is None]
            fault = ("missing_field", f"missing {', '.join(missing)}") if missing else None
        yield line, fields, fault


class _RepeatedNameError(Exception):
    """Two fields of one object have the same name: which of them is meant?"""


def _parse(content: str) -> tuple[dict[str, object], Fault | None]:
    try:
        value = json.loads(content, object_pairs_hook=_distinct)
    except RecursionError:
        return {}, ("not_json", "nested too deeply")
    except _RepeatedNameError:
        return {}, ("repeated_field", "two fields have the same name")
    except ValueError as error:
        reason = getattr(error, "msg", "a number has too many digits")
        return {}, ("not_json", f"{reason} at column {getattr(error, 'colno', 1)}")
    if not isinstance(value, dict):
        return {}, ("not_json", "not a JSON object")
    return value, None


def _distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise _RepeatedNameError
    return fields
