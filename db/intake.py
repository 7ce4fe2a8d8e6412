"""The door of files and of the Python API: one file is one transaction, accepted row by row, idempotently.

Rows stream by COPY into a temporary table and are judged there: unknown item, repeated, in conflict or new.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from sqlalchemy import Connection


@dataclass(frozen=True, slots=True)
class FileHeader:
    """The file as a whole: what makes the same file again the same batch."""

    source: str
    file_name: str
    file_format: str
    file_sha256: str
    file_num_bytes: int


@dataclass(frozen=True, slots=True)
class IncomingRow:
    """One row that has the documented form; whether it is accepted is decided in the database."""

    line: int
    response_id: str
    attempt: int
    item_id: str
    text: str
    text_key: bytes
    content_sha256: bytes
    student_id: str | None = None
    submitted_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """One row that has not the documented form."""

    line: int
    reason: str
    detail: str


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
    #: The first rejects and conflicts, in the order of the file.
    examples: tuple[RejectedRow, ...] = field(default=())


_INCOMING = """
CREATE TEMPORARY TABLE incoming (
    line int NOT NULL, response_id text, attempt int, item_id text, body text, text_key bytea,
    content_sha256 bytea, student_id text, submitted_at timestamptz, reason text, detail text
) ON COMMIT DROP
"""

_COPY = """
COPY incoming (line, response_id, attempt, item_id, body, text_key, content_sha256, student_id, submitted_at,
               reason, detail) FROM STDIN
"""

_UNKNOWN_ITEMS = """
UPDATE incoming i SET reason = 'unknown_item', detail = format('item %s has not been loaded', i.item_id)
WHERE i.reason IS NULL
  AND NOT EXISTS (SELECT FROM model.item m WHERE m.item_id = i.item_id AND m.retired_at IS NULL)
"""

# Of several rows with one key the first counts; a later one is a repetition if it says the same.
_SAME_FILE = """
UPDATE incoming i
SET reason = CASE WHEN i.content_sha256 = f.content_sha256 THEN 'repeated' ELSE 'conflict' END,
    detail = format('response %s attempt %s stands in line %s %s', i.response_id, i.attempt, f.line,
                    CASE WHEN i.content_sha256 = f.content_sha256 THEN 'already'
                         ELSE 'with other content' END)
FROM (SELECT DISTINCT ON (response_id, attempt) response_id, attempt, line, content_sha256
      FROM incoming WHERE reason IS NULL ORDER BY response_id, attempt, line) f
WHERE i.reason IS NULL AND f.response_id = i.response_id AND f.attempt = i.attempt AND f.line <> i.line
"""

_STUDENTS = """
INSERT INTO pii.student (source, source_student_id)
SELECT DISTINCT CAST(:source AS text), student_id FROM incoming
WHERE reason IS NULL AND student_id IS NOT NULL
ON CONFLICT DO NOTHING
"""

_ACCEPT = """
WITH added AS (
    INSERT INTO ingest.submission (batch_id, source, response_id, attempt, item_id, student_key, text,
                                   text_key, content_sha256, submitted_at)
    SELECT :batch_id, :source, i.response_id, i.attempt, i.item_id, p.student_key, i.body, i.text_key,
           i.content_sha256, i.submitted_at
    FROM incoming i
    LEFT JOIN pii.student p ON p.source = :source AND p.source_student_id = i.student_id
    WHERE i.reason IS NULL ORDER BY i.line
    ON CONFLICT (source, response_id, attempt) DO NOTHING
    RETURNING submission_id, item_id
), queued AS (
    INSERT INTO ingest.work (submission_id, item_id) SELECT submission_id, item_id FROM added RETURNING 1
)
SELECT count(*) FROM queued
"""

# What is in the ledger now under the same key but from elsewhere: said before, or said differently.
_KNOWN_BEFORE = """
UPDATE incoming i
SET reason = CASE WHEN s.content_sha256 = i.content_sha256 THEN 'repeated' ELSE 'conflict' END,
    detail = format('response %s attempt %s is in the ledger %s', i.response_id, i.attempt,
                    CASE WHEN s.content_sha256 = i.content_sha256 THEN 'already'
                         ELSE 'with other content' END)
FROM ingest.submission s
WHERE i.reason IS NULL AND s.source = :source AND s.response_id = i.response_id AND s.attempt = i.attempt
  AND (s.batch_id IS DISTINCT FROM :batch_id OR s.content_sha256 <> i.content_sha256)
"""

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
    connection.execute(text(_INCOMING))
    _copy(connection, rows)
    connection.execute(text("ANALYZE incoming"))
    scope = {"source": header.source, "batch_id": batch_id}
    connection.execute(text(_UNKNOWN_ITEMS))
    connection.execute(text(_SAME_FILE))
    connection.execute(text(_STUDENTS), scope)
    num_new = connection.execute(text(_ACCEPT), scope).scalar_one()
    connection.execute(text(_KNOWN_BEFORE), scope)
    return _settle(connection, batch_id, num_new=num_new, max_examples=max_examples)


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


def _copy(connection: Connection, rows: Iterable[IncomingRow | RejectedRow]) -> None:
    driver = connection.connection.driver_connection
    if driver is None:
        raise RuntimeError("the connection is closed")
    with driver.cursor() as cursor, cursor.copy(_COPY) as copy:
        for row in rows:
            copy.write_row(_columns(row))


def _columns(row: IncomingRow | RejectedRow) -> tuple[object, ...]:
    if isinstance(row, RejectedRow):
        return (row.line, None, None, None, None, None, None, None, None, row.reason, row.detail)
    return (
        row.line,
        row.response_id,
        row.attempt,
        row.item_id,
        row.text,
        row.text_key,
        row.content_sha256,
        row.student_id,
        row.submitted_at,
        None,
        None,
    )


def _settle(connection: Connection, batch_id: int, *, num_new: int, max_examples: int) -> IntakeReport:
    connection.execute(text("DELETE FROM ingest.reject WHERE batch_id = :batch_id"), {"batch_id": batch_id})
    connection.execute(
        text("""
            INSERT INTO ingest.reject (batch_id, line, reason, detail)
            SELECT :batch_id, line, reason, detail FROM incoming
            WHERE reason IS NOT NULL AND reason <> 'repeated'
        """),
        {"batch_id": batch_id},
    )
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
    shown = connection.execute(
        text(
            "SELECT line, reason, detail FROM ingest.reject WHERE batch_id = :batch_id ORDER BY line LIMIT :n"
        ),
        {"batch_id": batch_id, "n": max_examples},
    )
    examples = tuple(RejectedRow(row.line, row.reason, row.detail) for row in shown)
    return IntakeReport(batch_id=batch_id, num_new=num_new, examples=examples, **counts)
