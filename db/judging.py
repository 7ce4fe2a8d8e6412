"""Where the rows of every door are judged: unknown item, repeated, in conflict or new.

Rows stream by COPY into a temporary table; what is new becomes a submission that waits for work. Knows
neither files nor messages: each door settles with its own sender.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from db.copying import copy_rows

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from sqlalchemy import Connection


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
    #: `response_id` names the answer among the student's own: the pseudonym is put before it, so that the
    #: key is unique and still says nothing about who it is. Needs a student_id.
    within_student: bool = False


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """One row that has not the documented form."""

    line: int
    reason: str
    detail: str


#: A million rows are sorted and joined twice; without this each time by way of the disk.
_WORK_MEM = "SET LOCAL work_mem = '96MB'"

_INCOMING = """
CREATE TEMPORARY TABLE incoming (
    line int NOT NULL, source text, response_id text, attempt int, item_id text, body text, text_key bytea,
    content_sha256 bytea, student_id text, submitted_at timestamptz, within_student boolean, reason text,
    detail text
) ON COMMIT DROP
"""

_COPY = """
COPY incoming (line, source, response_id, attempt, item_id, body, text_key, content_sha256, student_id,
               submitted_at, within_student, reason, detail) FROM STDIN
"""

_UNKNOWN_ITEMS = """
UPDATE incoming i SET reason = 'unknown_item', detail = format('item %s has not been loaded', i.item_id)
WHERE i.reason IS NULL
  AND NOT EXISTS (SELECT FROM model.item m WHERE m.item_id = i.item_id AND m.retired_at IS NULL)
"""

# Of several rows with one key the first counts; a later one is a repetition if it says the same.
_SAME_BATCH = """
UPDATE incoming i
SET reason = CASE WHEN i.content_sha256 = f.content_sha256 THEN 'repeated' ELSE 'conflict' END,
    detail = format('response %s attempt %s stands in line %s %s', i.response_id, i.attempt, f.line,
                    CASE WHEN i.content_sha256 = f.content_sha256 THEN 'already'
                         ELSE 'with other content' END)
FROM (SELECT DISTINCT ON (source, response_id, attempt) source, response_id, attempt, line, content_sha256
      FROM incoming WHERE reason IS NULL ORDER BY source, response_id, attempt, line) f
WHERE i.reason IS NULL AND f.source = i.source AND f.response_id = i.response_id
  AND f.attempt = i.attempt AND f.line <> i.line
"""

# In the order of the key, here and below: two doors that bring the same rows then wait for each other
# instead of locking each other out.
_STUDENTS = """
INSERT INTO pii.student (source, source_student_id)
SELECT DISTINCT source, student_id FROM incoming
WHERE reason IS NULL AND student_id IS NOT NULL ORDER BY source, student_id
ON CONFLICT DO NOTHING
"""

_PSEUDONYMS = """
UPDATE incoming i SET response_id = p.student_key || ':' || i.response_id
FROM pii.student p
WHERE i.reason IS NULL AND i.within_student AND p.source = i.source AND p.source_student_id = i.student_id
"""

_ACCEPT = """
WITH added AS (
    INSERT INTO ingest.submission (batch_id, source, response_id, attempt, item_id, student_key, text,
                                   text_key, content_sha256, submitted_at)
    SELECT :batch_id, i.source, i.response_id, i.attempt, i.item_id, p.student_key, i.body, i.text_key,
           i.content_sha256, i.submitted_at
    FROM incoming i
    LEFT JOIN pii.student p ON p.source = i.source AND p.source_student_id = i.student_id
    WHERE i.reason IS NULL ORDER BY i.source, i.response_id, i.attempt
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
WHERE i.reason IS NULL AND s.source = i.source AND s.response_id = i.response_id AND s.attempt = i.attempt
  AND (s.batch_id IS DISTINCT FROM :batch_id OR s.content_sha256 <> i.content_sha256)
"""


def judge(
    connection: Connection, rows: Iterable[tuple[str, IncomingRow | RejectedRow]], *, batch_id: int | None
) -> int:
    """Take rows into the ledger; what became of each stands in table `incoming` until the transaction ends.

    Args:
        connection: an open transaction.
        rows: pairs of source and row, streamed.
        batch_id: the file that they come from; None for rows that came one by one.

    Returns:
        How many submissions were not in the ledger before.
    """
    connection.execute(text(_WORK_MEM))
    connection.execute(text(_INCOMING))
    copy_rows(connection, _COPY, (_columns(source, row) for source, row in rows))
    connection.execute(text("ANALYZE incoming"))
    connection.execute(text(_UNKNOWN_ITEMS))
    connection.execute(text(_STUDENTS))
    connection.execute(text(_PSEUDONYMS))
    connection.execute(text(_SAME_BATCH))
    num_new = connection.execute(text(_ACCEPT), {"batch_id": batch_id}).scalar_one()
    connection.execute(text(_KNOWN_BEFORE), {"batch_id": batch_id})
    return int(num_new)


def _columns(source: str, row: IncomingRow | RejectedRow) -> tuple[object, ...]:
    if isinstance(row, RejectedRow):
        empty = (None,) * 9
        return (row.line, source, *empty, row.reason, row.detail)
    return (
        row.line,
        source,
        row.response_id,
        row.attempt,
        row.item_id,
        row.text,
        row.text_key,
        row.content_sha256,
        row.student_id,
        row.submitted_at,
        row.within_student,
        None,
        None,
    )
