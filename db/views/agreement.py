"""Machine and people side by side: pairs, and how well they agree."""

from __future__ import annotations

from db.views.scores import STRONGEST_FIRST
from db.views.view import View

#: Quadratic weighted kappa in closed form, population moments; equal to the discrete one.
_QWK = """2 * covar_pop(m.level, h.level)
                   / nullif(var_pop(m.level) + var_pop(h.level) + power(avg(m.level) - avg(h.level), 2), 0)"""
_SMD = "((avg(m.level) - avg(h.level)) / nullif(stddev_samp(h.level), 0))::float8"

AGREEMENT = View(
    name="agreement",
    comment="Per item, trait and scorer: how well the machine agrees with human reads.",
    select=f"""
        SELECT s.item_id, m.trait, m.scorer_id, m.role, count(*) AS num_pairs,
               avg((m.level = h.level)::int)::float8 AS exact,
               avg((abs(m.level - h.level) <= 1)::int)::float8 AS exact_adjacent,
               {_QWK}
                   AS qwk,
               {_SMD} AS smd
        FROM score.machine_score m
        JOIN score.human_score h ON h.submission_id = m.submission_id AND h.trait = m.trait
             AND h.purpose IN ('first', 'read_behind')
        JOIN ingest.submission s ON s.submission_id = m.submission_id
        WHERE m.level IS NOT NULL AND h.level IS NOT NULL
        GROUP BY s.item_id, m.trait, m.scorer_id, m.role
    """,
    columns={
        "item_id": "the question",
        "trait": "the thing scored",
        "scorer_id": "the scorer compared",
        "role": "champion or shadow at the time of scoring",
        "num_pairs": "answers that both the machine and a person scored",
        "exact": "share of equal levels",
        "exact_adjacent": "share of levels at most one apart",
        "qwk": "quadratic weighted kappa, 2cov/(var+var+(difference of means)^2)",
        "smd": "standardised mean difference, (machine - human) / sd(human)",
    },
)

AGREEMENT_BY_WEEK = View(
    name="agreement_by_week",
    comment="Per item, trait, scorer and week of reading: how well the machine agrees with human reads.",
    select=f"""
        SELECT c.item_id, m.trait, m.scorer_id, m.role,
               date_trunc('week', h.scored_at, 'UTC')::date AS week, count(*) AS num_pairs,
               avg((m.level = h.level)::int)::float8 AS exact,
               avg((abs(m.level - h.level) <= 1)::int)::float8 AS exact_adjacent,
               {_QWK}
                   AS qwk,
               {_SMD} AS smd
        FROM model.scorer c
        JOIN score.machine_score m USING (scorer_id)
        JOIN score.human_score h ON h.submission_id = m.submission_id AND h.trait = m.trait
             AND h.purpose IN ('first', 'read_behind')
        WHERE m.level IS NOT NULL AND h.level IS NOT NULL
        GROUP BY c.item_id, m.trait, m.scorer_id, m.role, week
    """,
    columns={
        "item_id": "the question",
        "trait": "the thing scored",
        "scorer_id": "the scorer compared",
        "role": "champion or shadow at the time of scoring",
        "week": "Monday of the week in which people read, UTC",
        "num_pairs": "answers that both the machine and a person scored; below 200 a kappa says little",
        "exact": "share of equal levels",
        "exact_adjacent": "share of levels at most one apart",
        "qwk": "quadratic weighted kappa, 2cov/(var+var+(difference of means)^2)",
        "smd": "standardised mean difference, (machine - human) / sd(human)",
    },
)

PAIRS = View(
    name="pairs",
    comment="One row per human read that stands beside a machine's level: who differs from whom, how far.",
    select="""
        SELECT h.submission_id, s.source, s.response_id, s.attempt, s.item_id, h.trait, m.scorer_id, m.role,
               m.level AS machine_level, h.level AS human_level, abs(m.level - h.level) AS difference,
               m.confidence, h.purpose, h.rater, h.scored_at AS read_at
        FROM score.human_score h
        JOIN score.machine_score m ON m.submission_id = h.submission_id AND m.trait = h.trait
        JOIN ingest.submission s ON s.submission_id = h.submission_id
        WHERE m.level IS NOT NULL AND h.level IS NOT NULL AND h.purpose <> 'training'
    """,
    columns={
        "submission_id": "number of the submission",
        "source": "where it came from",
        "response_id": "the sender's id of the answer",
        "attempt": "the sender's attempt number",
        "item_id": "the question",
        "trait": "the thing scored",
        "scorer_id": "the scorer compared",
        "role": "champion or shadow at the time of scoring",
        "machine_level": "the machine's level",
        "human_level": "the person's level",
        "difference": "how many levels they are apart",
        "confidence": "the machine's probability of its own level",
        "purpose": "appeal, adjudication, second, read_behind or first",
        "rater": "who read it",
        "read_at": "when it was read",
    },
)

CROSS_TABLES = View(
    name="cross_tables",
    comment=(
        "Per item, trait and present champion or shadow: how often it gave one level where people gave which."
        " Answers that it learned from are left out; of several human reads the one that counts is taken."
    ),
    select=f"""
        SELECT a.item_id, m.trait, a.alias, a.scorer_id, t.num_levels, m.level AS machine_level,
               h.level AS human_level, count(*) AS num_answers
        FROM model.alias a
        JOIN model.scorer c USING (scorer_id)
        JOIN score.machine_score m USING (scorer_id)
        JOIN (
            SELECT DISTINCT ON (r.submission_id, r.trait) r.submission_id, r.trait, r.level
            FROM score.human_score r WHERE r.purpose <> 'training'
            ORDER BY r.submission_id, r.trait, array_position({STRONGEST_FIRST}, r.purpose),
                     r.human_score_id DESC
        ) h ON h.submission_id = m.submission_id AND h.trait = m.trait
        JOIN model.trait t ON t.item_id = a.item_id AND t.trait = m.trait
        WHERE a.alias IN ('champion', 'shadow') AND m.level IS NOT NULL AND h.level IS NOT NULL
          AND NOT EXISTS (
              SELECT FROM model.training_run_submission u
              WHERE u.training_run_id = c.training_run_id AND u.submission_id = m.submission_id
                AND u.fold <> 'test')
        GROUP BY a.item_id, m.trait, a.alias, a.scorer_id, t.num_levels, m.level, h.level
    """,
    columns={
        "item_id": "the question",
        "trait": "the thing scored",
        "alias": "champion or shadow, at present",
        "scorer_id": "the scorer compared",
        "num_levels": "how many levels the trait has, from 0",
        "machine_level": "the scorer's level",
        "human_level": "the level by the human read that counts",
        "num_answers": "answers with just these two levels",
    },
)
