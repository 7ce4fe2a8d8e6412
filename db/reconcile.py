"""An exporter's list of responses against the ledger: what is missing, double or in conflict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from db.copying import copy_rows

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Connection


@dataclass(frozen=True, slots=True)
class ListedRow:
    """One line of the exporter's list; what it does not say (None) is not compared."""

    line: int
    response_id: str
    attempt: int
    item_id: str | None = None
    content_sha256: bytes | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """One response about which list and ledger do not agree."""

    #: missing, listed_twice, conflict, scored_twice, unscored or quarantined.
    kind: str
    line: int
    response_id: str
    attempt: int
    detail: str


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """Counts over the list's distinct responses, all findings; `num_unlisted` stand in the ledger only."""

    num_listed: int
    num_scored: int
    num_waiting: int
    num_quarantined: int
    num_unlisted: int
    findings: tuple[Finding, ...]


_LISTED = """
CREATE TEMPORARY TABLE listed (
    line int NOT NULL, response_id text NOT NULL, attempt int NOT NULL, item_id text, content_sha256 bytea
) ON COMMIT DROP
"""

_FINDINGS = """
WITH first AS (
    SELECT DISTINCT ON (response_id, attempt) * FROM listed ORDER BY response_id, attempt, line
), matched AS (
    SELECT f.*, s.submission_id, s.item_id AS known_item, s.content_sha256 AS known_content, w.state,
           w.last_error
    FROM first f
    LEFT JOIN ingest.submission s ON s.source = :source AND s.response_id = f.response_id
                                 AND s.attempt = f.attempt
    LEFT JOIN ingest.work w USING (submission_id)
), wanted AS (
    SELECT m.submission_id, t.trait FROM matched m JOIN model.trait t ON t.item_id = m.known_item
    WHERE m.state = 'done'
), scored AS (
    SELECT x.submission_id, x.trait,
           count(*) FILTER (WHERE x.role = 'champion') AS num_champions
    FROM score.machine_score x JOIN matched USING (submission_id) GROUP BY 1, 2
)
SELECT 'missing' AS kind, line, response_id, attempt, 'not in the ledger' AS detail
FROM matched WHERE submission_id IS NULL
UNION ALL
SELECT 'listed_twice', l.line, l.response_id, l.attempt, format('stands in line %s already', f.line)
FROM listed l JOIN first f USING (response_id, attempt) WHERE l.line <> f.line
UNION ALL
SELECT 'conflict', line, response_id, attempt,
       CASE WHEN item_id <> known_item THEN format('the ledger has item %s', known_item)
            ELSE 'the ledger has another text' END
FROM matched WHERE item_id <> known_item OR content_sha256 <> known_content
UNION ALL
SELECT DISTINCT 'unscored', m.line, m.response_id, m.attempt, 'done without a score for every trait'
FROM matched m JOIN wanted w USING (submission_id) LEFT JOIN scored s USING (submission_id, trait)
WHERE s.trait IS NULL
UNION ALL
SELECT DISTINCT 'scored_twice', m.line, m.response_id, m.attempt, 'more than one champion''s score'
FROM matched m JOIN scored s USING (submission_id)
WHERE s.num_champions > 1
UNION ALL
SELECT 'quarantined', m.line, m.response_id, m.attempt, coalesce(q.reason, m.last_error, 'no reason given')
FROM matched m
LEFT JOIN LATERAL (SELECT reason FROM ingest.quarantine q WHERE q.submission_id = m.submission_id
                   ORDER BY quarantine_id DESC LIMIT 1) q ON true
WHERE m.state = 'quarantined'
ORDER BY line
"""

_COPY = "COPY listed (line, response_id, attempt, item_id, content_sha256) FROM STDIN"

_COUNTS = """
WITH known AS (
    SELECT w.state, EXISTS (SELECT FROM listed l WHERE l.response_id = s.response_id
                                                   AND l.attempt = s.attempt) AS listed
    FROM ingest.submission s JOIN ingest.work w USING (submission_id) WHERE s.source = :source
)
SELECT (SELECT count(DISTINCT (response_id, attempt)) FROM listed) AS num_listed,
       count(*) FILTER (WHERE listed AND state = 'done') AS num_scored,
       count(*) FILTER (WHERE listed AND state IN ('ready', 'leased')) AS num_waiting,
       count(*) FILTER (WHERE listed AND state = 'quarantined') AS num_quarantined,
       count(*) FILTER (WHERE NOT listed) AS num_unlisted
FROM known
"""


def reconcile(connection: Connection, rows: Iterable[ListedRow], *, source: str) -> Reconciliation:
    """Compare a list with everything that the ledger has of one source.

    Args:
        connection: an open transaction; nothing is changed.
        rows: the list, streamed.
        source: whose responses these are.
    """
    connection.execute(text(_LISTED))
    columns = ((row.line, row.response_id, row.attempt, row.item_id, row.content_sha256) for row in rows)
    copy_rows(connection, _COPY, columns)
    connection.execute(text("ANALYZE listed"))
    findings = connection.execute(text(_FINDINGS), {"source": source})
    counts = connection.execute(text(_COUNTS), {"source": source}).one()
    return Reconciliation(findings=tuple(Finding(**row._mapping) for row in findings), **counts._mapping)
