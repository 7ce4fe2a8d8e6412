"""What was refused of a file, written beside it: line, reason, detail; never an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workers.replacing import replaced
from workers.spreadsheets import write_rows

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from db.intake import RejectedRow


def write_rejects(path: Path, rejects: Iterable[RejectedRow]) -> int:
    """Write a CSV file of rejects, whole or not at all; how many there are.

    Raises:
        LocalFaultError: the file cannot be written.
    """
    rows = ((row.line, row.reason, row.detail) for row in rejects)
    with replaced(path) as stream:
        return write_rows(stream, ("line", "reason", "detail"), rows)
