"""The score that counts, and where it came from. A human score always wins over the machine's."""

from __future__ import annotations

from db.models.score import PURPOSES
from db.views.view import View

#: Human reads that count as scores, the strongest first, as SQL: "training" reads teach and never count.
STRONGEST_FIRST = "ARRAY[" + ", ".join(f"'{one}'" for one in PURPOSES if one != "training") + "]"

SCORES = View(
    name="scores",
    comment=(
        "One row per submission and trait: the current score and who gave it. A human score always wins, and"
        " stands alone where no machine has scored the answer: what the machine says is null then."
    ),
    select=f"""
        SELECT s.submission_id, s.batch_id, s.source, s.response_id, s.attempt, s.item_id, s.student_key,
               t.trait,
               CASE WHEN h.human_score_id IS NOT NULL THEN h.level ELSE m.level END AS level,
               CASE WHEN h.human_score_id IS NOT NULL THEN 'human' ELSE 'machine' END AS given_by,
               CASE WHEN h.human_score_id IS NOT NULL THEN h.condition_code ELSE m.condition_code END
                   AS condition_code,
               m.level AS machine_level, h.level AS human_level, h.purpose AS human_purpose,
               m.probabilities, m.confidence, m.needs_review, m.scorer_id, m.engine, m.scored_at,
               h.rater, h.scored_at AS read_at, greatest(m.scored_at, h.scored_at) AS changed_at,
               m.machine_score_id
        FROM ingest.submission s
        JOIN model.trait t ON t.item_id = s.item_id
        LEFT JOIN score.machine_score m
             ON m.submission_id = s.submission_id AND m.trait = t.trait AND m.role = 'champion'
             AND NOT EXISTS (
                 SELECT FROM score.machine_score c
                 WHERE c.submission_id = m.submission_id AND c.trait = m.trait AND c.role = 'champion'
                   AND c.machine_score_id > m.machine_score_id)
        LEFT JOIN LATERAL (
            SELECT c.* FROM score.human_score c
            WHERE c.submission_id = s.submission_id AND c.trait = t.trait AND c.purpose <> 'training'
            ORDER BY array_position({STRONGEST_FIRST}, c.purpose), c.human_score_id DESC
            LIMIT 1
        ) h ON true
        WHERE m.machine_score_id IS NOT NULL OR h.human_score_id IS NOT NULL
    """,
    columns={
        "submission_id": "number of the submission",
        "batch_id": "number of the batch it came with",
        "source": "where it came from",
        "response_id": "the sender's id of the answer",
        "attempt": "the sender's attempt number",
        "item_id": "the question",
        "student_key": "random pseudonym of the student",
        "trait": "the thing scored",
        "level": "the score that counts; null where a condition code stands instead",
        "given_by": "human or machine",
        "condition_code": "why there is no level",
        "machine_level": "the newest champion's level",
        "human_level": "the level by the human read that counts",
        "human_purpose": "appeal, adjudication, second, read_behind or first",
        "probabilities": "the machine's probability of each level, from 0 up",
        "confidence": "the machine's probability of its own level",
        "needs_review": "whether the machine asks for a human read",
        "scorer_id": "the scorer that gave the machine's level",
        "engine": "engine and precision that ran it",
        "scored_at": "when the machine scored it",
        "rater": "who gave the human level",
        "read_at": "when that person read it",
        "changed_at": "when the score that counts last changed",
        "machine_score_id": "number of the machine's score; grows with time",
    },
)

SCORE_ORIGINS = View(
    name="score_origins",
    comment="One row per machine score, current or not: which model gave it and where that model comes from.",
    select="""
        SELECT m.submission_id, s.source, s.response_id, s.attempt, s.item_id, m.trait, m.level,
               m.condition_code, m.role, m.scored_at, m.engine, m.scorer_id, c.scorer_key, e.extractor_key,
               e.kind AS extractor_kind, e.backbone, e.backbone_revision, c.created_at AS scorer_made_at,
               t.trigger AS trained_because, t.finished_at AS trained_at,
               (c.metrics ->> 'qwk')::float8 AS test_qwk
        FROM score.machine_score m
        JOIN ingest.submission s USING (submission_id)
        JOIN model.scorer c USING (scorer_id)
        JOIN model.extractor e USING (extractor_id)
        LEFT JOIN model.training_run t ON t.training_run_id = c.training_run_id
    """,
    columns={
        "submission_id": "number of the submission",
        "source": "where it came from",
        "response_id": "the sender's id of the answer",
        "attempt": "the sender's attempt number",
        "item_id": "the question",
        "trait": "the thing scored",
        "level": "the level that this model gave",
        "condition_code": "why it gave none",
        "role": "champion or shadow at the time of scoring",
        "scored_at": "when it was scored",
        "engine": "engine and precision that ran it",
        "scorer_id": "number of the scorer",
        "scorer_key": "the scorer's content hash, its name in the artifact store",
        "extractor_key": "content hash of the adapter that it uses",
        "extractor_kind": "item: an adapter of its own; merged: one shared by a group of items",
        "backbone": "the encoder under it",
        "backbone_revision": "hash of the encoder's weights",
        "scorer_made_at": "when the scorer was registered",
        "trained_because": "manual, schedule, new_scores, drift, agreement or merge",
        "trained_at": "when its training ended",
        "test_qwk": "quadratic weighted kappa on its held-out answers, where it was measured",
    },
)
