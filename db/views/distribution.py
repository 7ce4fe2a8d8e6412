"""How levels and condition codes are spread: did last night look like the nights before?"""

from __future__ import annotations

from db.views.view import View

#: A day that does not depend on the session's time zone, so that an index can hold it.
SCORED_DAY = "((m.scored_at AT TIME ZONE 'UTC')::date)"

LEVEL_SHARES = View(
    name="level_shares",
    comment="Per item, trait, day and level: how many answers the champion gave it; levels with none too.",
    select=f"""
        SELECT d.item_id, d.trait, d.day, l.level::smallint AS level,
               coalesce((d.counts ->> l.level::text)::bigint, 0) AS num_answers,
               coalesce((d.counts ->> l.level::text)::float8, 0) / d.num_levelled AS share,
               d.num_levelled AS num_answers_of_day
        FROM (
            SELECT c.item_id, c.trait, c.day, sum(c.num)::bigint AS num_levelled,
                   jsonb_object_agg(c.level, c.num) AS counts
            FROM (
                SELECT s.item_id, m.trait, {SCORED_DAY} AS day, m.level, count(*) AS num
                FROM model.scorer s JOIN score.machine_score m USING (scorer_id)
                WHERE m.role = 'champion' AND m.level IS NOT NULL
                GROUP BY s.item_id, m.trait, day, m.level
            ) c
            GROUP BY c.item_id, c.trait, c.day
        ) d
        JOIN model.trait t ON t.item_id = d.item_id AND t.trait = d.trait
        CROSS JOIN LATERAL generate_series(0, t.num_levels - 1) AS l(level)
    """,
    columns={
        "item_id": "the question",
        "trait": "the thing scored",
        "day": "the day on which the machine scored, UTC",
        "level": "the level, from 0",
        "num_answers": "how many answers were given this level; 0 where none was",
        "share": "the same as a share of the day's levels",
        "num_answers_of_day": "how many answers were given any level on that day",
    },
)

CONDITION_CODES = View(
    name="condition_codes",
    comment="Per batch, item, trait and code: how many answers have a condition code instead of a level.",
    select="""
        SELECT s.batch_id, s.item_id, s.trait, s.condition_code, s.given_by, count(*) AS num_answers
        FROM (SELECT c.submission_id FROM score.machine_score c WHERE c.condition_code IS NOT NULL
              UNION
              SELECT c.submission_id FROM score.human_score c WHERE c.condition_code IS NOT NULL) coded
        JOIN grader.scores s USING (submission_id)
        WHERE s.condition_code IS NOT NULL
        GROUP BY s.batch_id, s.item_id, s.trait, s.condition_code, s.given_by
    """,
    columns={
        "batch_id": "number of the batch; null for answers that came one by one",
        "item_id": "the question",
        "trait": "the thing scored",
        "condition_code": "blank, too_short, copied_prompt, refused, wrong_language or not_text",
        "given_by": "human or machine",
        "num_answers": "how many answers of the batch have it",
    },
)
