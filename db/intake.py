"""Into the ledger: a file as one transaction, or events by the handful; row by row, idempotently.

What becomes of a row is decided in `db.judging`, the same for both.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import text

from db.judging import IncomingRow, RejectedRow, judge

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sqlalchemy import Connection

__all__ = [
    "EventsReport",
    "FileHeader",
    "IncomingRow",
    "IntakeReport",
    "RejectedRow",
    "accept_events",
    "accept_file",
    "known_batch",
    "rejects",
]


@dataclass(frozen=True, slots=True)
class FileHeader:
    """The file as a whole: what makes the same file again the same batch."""

    source: str
    file_name: str
    file_format: str
    file_sha256: str
    file_num_bytes: int


@dataclass(frozen=True, slots=True)
class IntakeReport:
    """What became of a file's rows; `num_new` were not in the ledger before this call."""

    batch_id: int
    num_rows: int
    num_new: int
    num_accepted: int
    num_repeated: int
    num_conflicts: int
    num_rejected: int
    file_format: str = ""
    #: The first rejects and conflicts, in the order of the file.
    examples: tuple[RejectedRow, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class EventsReport:
    """What became of events; `refused` names them by their `line`, unknown items and conflicts."""

    num_new: int
    num_repeated: int
    refused: tuple[RejectedRow, ...] = field(default=())


_COUNTS = """
SELECT count(*) AS num_rows,
       count(*) FILTER (WHERE reason IS NULL) AS num_accepted,
       count(*) FILTER (WHERE reason = 'repeated') AS num_repeated,
       count(*) FILTER (WHERE reason = 'conflict') AS num_conflicts,
       count(*) FILTER (WHERE reason NOT IN ('repeated', 'conflict')) AS num_rejected
FROM incoming
"""


def accept_file(
    connection: Connection,
    header: FileHeader,
    rows: Iterable[IncomingRow | RejectedRow],
    *,
    max_examples: int = 20,
) -> IntakeReport:
    """Take a file's rows into the ledger; the caller's transaction makes it all or nothing.

    Args:
        connection: an open transaction.
        header: the file as a whole.
        rows: streamed, so a file of any size needs little memory here.
        max_examples: how many rejects and conflicts the report shows.

    Returns:
        Counts over all rows of the file: the same file again gives the same counts, with `num_new` 0.
    """
    batch_id = _batch(connection, header)
    num_new = judge(connection, ((header.source, row) for row in rows), batch_id=batch_id)
    _keep_refused(connection, batch_id)
    return _settle(connection, batch_id, header.file_format, num_new=num_new, max_examples=max_examples)


def accept_events(connection: Connection, rows: Iterable[tuple[str, IncomingRow]]) -> EventsReport:
    """Take events into the ledger; the caller's transaction makes it all or nothing.

    Args:
        connection: an open transaction.
        rows: pairs of source and row; a row's `line` is the caller's number for it, unique in this call.

    Returns:
        Counts, and the rows that were refused; an event that is in the ledger already counts as repeated.
    """
    num_new = judge(connection, rows, batch_id=None)
    counts = connection.execute(text(_COUNTS)).one()
    refused = connection.execute(
        text("""
            SELECT line, reason, detail FROM incoming
            WHERE reason IS NOT NULL AND reason <> 'repeated' ORDER BY line
        """)
    )
    return EventsReport(
        num_new=num_new,
        num_repeated=counts.num_repeated + counts.num_accepted - num_new,
        refused=tuple(RejectedRow(row.line, row.reason, row.detail) for row in refused),
    )


def _batch(connection: Connection, header: FileHeader) -> int:
    found = connection.execute(
        text("""
            INSERT INTO ingest.batch (source, file_name, file_format, file_sha256, file_num_bytes)
            VALUES (:source, :file_name, :file_format, :file_sha256, :file_num_bytes)
            ON CONFLICT (source, file_sha256) DO UPDATE SET file_name = excluded.file_name
            RETURNING batch_id
        """),
        {
            "source": header.source,
            "file_name": header.file_name,
            "file_format": header.file_format,
            "file_sha256": header.file_sha256,
            "file_num_bytes": header.file_num_bytes,
        },
    )
    return int(found.scalar_one())


def known_batch(connection: Connection, *, source: str, file_sha256: str) -> int | None:
    """The batch that a file of this content became, None if it has not been accepted."""
    found = connection.execute(
        text("SELECT batch_id FROM ingest.batch WHERE source = :source AND file_sha256 = :file_sha256"),
        {"source": source, "file_sha256": file_sha256},
    )
    return found.scalar_one_or_none()


def rejects(connection: Connection, *, batch_id: int, limit: int | None = None) -> Iterator[RejectedRow]:
    """What was refused of a file, in its order; several answers of one line may be among them."""
    found = connection.execute(
        text("""
            SELECT line, reason, detail FROM ingest.reject WHERE batch_id = :batch_id
            ORDER BY line, part LIMIT :limit
        """),
        {"batch_id": batch_id, "limit": limit},
        execution_options={"yield_per": 1000},
    )
    for row in found:
        yield RejectedRow(row.line, row.reason, row.detail)


def _keep_refused(connection: Connection, batch_id: int) -> None:
    connection.execute(text("DELETE FROM ingest.reject WHERE batch_id = :batch_id"), {"batch_id": batch_id})
    connection.execute(
        text("""
            INSERT INTO ingest.reject (batch_id, line, part, reason, detail)
            SELECT :batch_id, line, row_number() OVER (PARTITION BY line ORDER BY response_id, detail),
                   reason, detail
            FROM incoming WHERE reason IS NOT NULL AND reason <> 'repeated'
        """),
        {"batch_id": batch_id},
    )


def _settle(
    connection: Connection, batch_id: int, file_format: str, *, num_new: int, max_examples: int
) -> IntakeReport:
    counts = connection.execute(text(_COUNTS)).one()._asdict()
    connection.execute(
        text("""
            UPDATE ingest.batch
            SET num_rows = :num_rows, num_accepted = :num_accepted, num_repeated = :num_repeated,
                num_conflicts = :num_conflicts, num_rejected = :num_rejected
            WHERE batch_id = :batch_id
        """),
        {**counts, "batch_id": batch_id},
    )
    return IntakeReport(
        batch_id=batch_id,
        num_new=num_new,
        file_format=file_format,
        examples=tuple(rejects(connection, batch_id=batch_id, limit=max_examples)),
        **counts,
    )
