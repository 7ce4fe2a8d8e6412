"""Many scores by plain SQL, spread as a year of nights spreads them: items, batches, days, reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from db import registry
from tests import rows

if TYPE_CHECKING:
    from sqlalchemy import Connection

#: Item 0 and batch 1 stand for what the documentation asks about.
ITEMS = ("puddle", *(f"item-{number}" for number in range(1, 25)))

_STEPS = (
    """
    INSERT INTO ingest.batch (source, file_name, file_format, file_sha256, file_num_bytes, num_rows,
                              num_accepted, received_at)
    SELECT 'lms', 'night-' || n, 'csv', 'sha-' || n, 1, 0, 0, now() - make_interval(days => :batches - n)
    FROM generate_series(1, :batches) n
    """,
    """
    INSERT INTO pii.student (student_key, source, source_student_id)
    SELECT CASE WHEN n = 1 THEN '6f9619ff-8b86-4d01-b42d-00cf4fc964ff'::uuid ELSE gen_random_uuid() END,
           'lms', 'student-' || n
    FROM generate_series(1, greatest(:num / 20, 2)) n
    """,
    """
    CREATE TEMPORARY TABLE keys ON COMMIT DROP AS
    SELECT row_number() OVER (ORDER BY source_student_id) AS place, student_key FROM pii.student
    """,
    """
    INSERT INTO ingest.submission (batch_id, source, response_id, attempt, item_id, student_key, text,
                                   text_key, content_sha256, received_at)
    SELECT 1 + n * :batches / (:num + 1), 'lms', 'r' || n, 1,
           (CAST(:items AS text[]))[1 + n % cardinality(CAST(:items AS text[]))], k.student_key,
           'the water goes up into the air because the sun warms it ' || n, sha256(n::text::bytea),
           sha256(n::text::bytea), now() - make_interval(days => :batches - (n * :batches / (:num + 1))::int)
    FROM generate_series(1, :num) n JOIN keys k ON k.place = 1 + n % greatest(:num / 20, 2)
    ORDER BY n
    """,
    """
    INSERT INTO ingest.work (submission_id, item_id, state, finished_at)
    SELECT submission_id, item_id, 'done', received_at FROM ingest.submission
    """,
    """
    INSERT INTO score.machine_score (submission_id, trait, scorer_id, role, level, confidence, condition_code,
                                     needs_review, engine, scored_at)
    SELECT s.submission_id, 't0', c.scorer_id, 'champion', CASE WHEN x.coded THEN NULL ELSE x.level END,
           CASE WHEN x.coded THEN NULL ELSE 0.4 + x.r / 2 END, CASE WHEN x.coded THEN 'blank' END,
           x.coded OR x.r < 0.15, 'torch fp32', s.received_at
    FROM ingest.submission s
    JOIN model.alias c ON c.item_id = s.item_id AND c.alias = 'champion'
    CROSS JOIN LATERAL (
        SELECT r, (r * 3)::int % 3 AS level, r > 0.97 AS coded
        FROM (SELECT (s.submission_id * 7919 % 10007) / 10007.0 AS r) y) x
    """,
    """
    INSERT INTO score.human_score (submission_id, trait, rater, level, scored_at)
    SELECT submission_id, 't0', 'ann', CASE WHEN submission_id % 50 = 0 THEN 2 - level ELSE level END,
           scored_at + interval '1 hour'
    FROM score.machine_score WHERE submission_id % 10 = 0 AND level IS NOT NULL
    """,
    """
    INSERT INTO score.machine_score (submission_id, trait, scorer_id, role, level, confidence, engine,
                                     scored_at)
    SELECT m.submission_id, 't0', :shadow, 'shadow', (m.level + 1) % 3, 0.8, 'torch fp32', m.scored_at
    FROM score.machine_score m JOIN ingest.submission s USING (submission_id)
    WHERE s.item_id = :first_item AND m.level IS NOT NULL AND m.submission_id % 2 = 0
    """,
    "ANALYZE",
)


def write(connection: Connection, *, num_scores: int, num_batches: int = 100) -> None:
    """So many machine scores over 25 items and `num_batches` nights; a tenth is read, 17% wait for a read."""
    rows.serve(connection, *ITEMS)
    shadow = registry.register_scorer(connection, rows.scorer(ITEMS[0], "shadow"))
    values = {
        "num": num_scores,
        "batches": num_batches,
        "items": list(ITEMS),
        "shadow": shadow,
        "first_item": ITEMS[0],
    }
    for step in _STEPS:
        statement = text(step)
        connection.execute(statement, {name: values[name] for name in statement.compile().params})
