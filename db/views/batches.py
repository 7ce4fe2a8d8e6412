"""What came in, and how far it is."""

from __future__ import annotations

from db.views.view import View

BATCHES = View(
    name="batches",
    comment="One row a file: is last night's batch done?",
    select="""
        SELECT b.batch_id, b.source, b.file_name, b.received_at, b.num_rows, b.num_accepted, b.num_repeated,
               b.num_conflicts, b.num_rejected, w.num_scored, w.num_quarantined, w.num_waiting,
               CASE WHEN w.num_waiting = 0 THEN coalesce(w.finished_at, b.received_at) END AS finished_at,
               b.file_format
        FROM ingest.batch b
        -- A batch's submissions were numbered in one go: the work of all others is not even looked at.
        CROSS JOIN LATERAL (
            SELECT min(s.submission_id) AS first, max(s.submission_id) AS last
            FROM ingest.submission s WHERE s.batch_id = b.batch_id
        ) r
        CROSS JOIN LATERAL (
            SELECT count(*) FILTER (WHERE w.state = 'done') AS num_scored,
                   count(*) FILTER (WHERE w.state = 'quarantined') AS num_quarantined,
                   count(*) FILTER (WHERE w.state IN ('ready', 'leased')) AS num_waiting,
                   max(w.finished_at) AS finished_at
            FROM ingest.submission s JOIN ingest.work w USING (submission_id)
            WHERE s.batch_id = b.batch_id AND w.submission_id BETWEEN r.first AND r.last
        ) w
    """,
    columns={
        "batch_id": "number of the batch",
        "source": "where the file came from, as named at submission",
        "file_name": "name of the file, without its folder",
        "received_at": "when the file was accepted",
        "num_rows": "rows in the file",
        "num_accepted": "rows that became submissions of this batch",
        "num_repeated": "rows already known with the same content",
        "num_conflicts": "rows already known with other content; not accepted",
        "num_rejected": "rows that could not be accepted; view rejects says why",
        "num_scored": "submissions that have their scores",
        "num_quarantined": "submissions set aside with a reason",
        "num_waiting": "submissions not yet scored",
        "finished_at": "when the last submission was settled; null while any waits",
        "file_format": "kind of file, known by its content",
    },
)

REJECTS = View(
    name="rejects",
    comment="One row per answer of a file that was not accepted: where it stands and why.",
    select="""
        SELECT r.batch_id, b.source, b.file_name, b.received_at, r.line, r.reason, r.detail
        FROM ingest.reject r JOIN ingest.batch b USING (batch_id)
    """,
    columns={
        "batch_id": "number of the batch",
        "source": "where the file came from",
        "file_name": "name of the file, without its folder",
        "received_at": "when the file was accepted",
        "line": "line of the file on which the record begins",
        "reason": "why, as a word for counting",
        "detail": "why, as a sentence; never the answer",
    },
)
