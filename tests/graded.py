"""A night as graders find it: two items, champions and a shadow, scores, codes, human reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from db import intake, registry
from tests import rows

if TYPE_CHECKING:
    from sqlalchemy import Connection

STUDENT = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff"

_SCORES = """
INSERT INTO score.machine_score (submission_id, trait, scorer_id, role, level, probabilities, confidence,
                                 condition_code, needs_review, engine, scored_at)
SELECT s.submission_id, 't0', :scorer_id, :role,
       CASE WHEN s.submission_id % 10 <> 9 THEN (s.submission_id + :shift) % 3 END,
       CASE WHEN s.submission_id % 10 <> 9 THEN '{0.1,0.8,0.1}'::real[] END,
       CASE WHEN s.submission_id % 10 <> 9 THEN 0.5 + (s.submission_id % 7) / 20.0 END,
       CASE WHEN s.submission_id % 10 = 9 THEN 'blank' END,
       s.submission_id % 4 = 0 OR s.submission_id % 10 = 9, 'torch fp32',
       now() - make_interval(days => (s.submission_id % 20)::int)
FROM ingest.submission s WHERE s.item_id = :item_id
"""

_HUMANS = """
INSERT INTO score.human_score (submission_id, trait, purpose, rater, level, scored_at)
SELECT s.submission_id, 't0', 'first', 'ann',
       CASE WHEN s.submission_id % 25 = 0 THEN (s.submission_id + 2) % 3 ELSE s.submission_id % 3 END,
       now() - make_interval(days => (s.submission_id % 14)::int)
FROM ingest.submission s WHERE s.submission_id % 5 = 0
"""


def score_a_night(connection: Connection, *, num_answers: int = 200) -> dict[str, int]:
    """Answers to `puddle` and `ramp` by turns, scored and partly read; scorer ids by item and of the shadow.

    Submissions are numbered from 1 in an empty database: even ones answer `puddle`, each fifth is read.
    """
    scorers = rows.serve(connection, "puddle", "ramp")
    scorers["shadow"] = registry.register_scorer(connection, rows.scorer("puddle", "2"))
    connection.execute(
        text("INSERT INTO pii.student (student_key, source, source_student_id) VALUES (:key, 'lms', '901')"),
        {"key": STUDENT},
    )
    names = ("puddle", "ramp")
    content = [
        rows.incoming(n, f"r{n:03}", f"answer {n}", item_id=names[n % 2]) for n in range(1, num_answers + 1)
    ]
    intake.accept_file(connection, rows.header(), content)
    for name in names:
        _score(connection, scorers[name], "champion", name, shift=0)
    _score(connection, scorers["shadow"], "shadow", "puddle", shift=1)
    connection.execute(text(_HUMANS))
    connection.execute(text("UPDATE ingest.work SET state = 'done', finished_at = now()"))
    connection.execute(
        text("UPDATE ingest.submission SET student_key = :key WHERE submission_id <= 4"), {"key": STUDENT}
    )
    return scorers


def _score(connection: Connection, scorer_id: int, role: str, item_id: str, *, shift: int) -> None:
    connection.execute(
        text(_SCORES), {"scorer_id": scorer_id, "role": role, "item_id": item_id, "shift": shift}
    )


def propose_a_merge(connection: Connection) -> int:
    """A proposal over both items, in which `puddle` would get its present shadow; returns its number."""
    run = connection.execute(
        text("""
            INSERT INTO model.gw_run (period, trigger, state) VALUES ('n1', 'manual', 'done')
            RETURNING gw_run_id
        """)
    ).scalar_one()
    number = connection.execute(
        text("""
            INSERT INTO model.merge_proposal (gw_run_id, kind, items, criterion, method, distance,
                distance_rank, num_pairs, num_extractors_saved, num_bytes_before, num_bytes_after, verdict)
            VALUES (:run, 'merge', '{puddle,ramp}', 'gw', 'joint', 0.05, 1, 1, 1, 2000, 1000, 'pass')
            RETURNING merge_proposal_id
        """),
        {"run": run},
    ).scalar_one()
    connection.execute(
        text("""
            INSERT INTO model.merge_member (merge_proposal_id, item_id, scorer_before, scorer_after,
                num_answers, qwk_before, qwk_after, verdict)
            SELECT :number, a.item_id, a.scorer_id,
                   (SELECT max(s.scorer_id) FROM model.scorer s WHERE s.item_id = a.item_id), 200, 0.8,
                   0.8 - CASE a.item_id WHEN 'puddle' THEN 0.02 ELSE 0.01 END, 'pass'
            FROM model.alias a WHERE a.alias = 'champion'
        """),
        {"number": number},
    )
    connection.execute(
        text("""
            INSERT INTO model.merge_event (merge_proposal_id, actor, state, reason)
            VALUES (:number, 'nightly', 'proposed', 'near each other')
        """),
        {"number": number},
    )
    return int(number)
