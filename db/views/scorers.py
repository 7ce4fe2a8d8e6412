"""Who scores what now, and what another scorer would change."""

from __future__ import annotations

from db.views.view import View

SCORERS = View(
    name="scorers",
    comment="One row per item and alias: which scorer is champion, shadow or previous, since when, by whom.",
    select="""
        SELECT a.item_id, a.alias, a.scorer_id, a.set_by, a.set_at, c.created_at AS made_at,
               e.kind AS extractor_kind, e.backbone,
               (SELECT count(DISTINCT o.item_id) FROM model.scorer o JOIN model.alias x USING (scorer_id)
                WHERE o.extractor_id = c.extractor_id) AS num_items_sharing,
               t.trigger AS trained_because, t.finished_at AS trained_at, c.metrics
        FROM model.alias a
        JOIN model.scorer c USING (scorer_id)
        JOIN model.extractor e USING (extractor_id)
        LEFT JOIN model.training_run t ON t.training_run_id = c.training_run_id
    """,
    columns={
        "item_id": "the question",
        "alias": "champion: its scores count; shadow: scores beside it; previous: the champion before",
        "scorer_id": "number of the scorer",
        "set_by": "who moved the alias last",
        "set_at": "when",
        "made_at": "when the scorer was registered",
        "extractor_kind": "item: an adapter of its own; merged: one shared by a group of items",
        "backbone": "the encoder under it",
        "num_items_sharing": "items whose scorers use the same extractor",
        "trained_because": "manual, schedule, new_scores, drift, agreement or merge",
        "trained_at": "when its training ended",
        "metrics": "what was measured on its held-out answers",
    },
)

SHADOW_CHANGES = View(
    name="shadow_changes",
    comment="Per item, trait and shadow scorer: what would change if it replaced the champion.",
    select="""
        SELECT c.item_id, x.trait, x.scorer_id AS shadow_scorer_id, m.scorer_id AS champion_scorer_id,
               count(*) AS num_answers, count(*) FILTER (WHERE x.level <> m.level) AS num_changed,
               avg((x.level <> m.level)::int)::float8 AS share_changed,
               avg(x.level - m.level)::float8 AS mean_change,
               count(*) FILTER (WHERE abs(x.level - m.level) >= 2) AS num_changed_by_two,
               count(*) FILTER (WHERE x.level = 0 AND m.level > 0) AS num_new_zeros
        FROM score.machine_score x
        JOIN model.scorer c ON c.scorer_id = x.scorer_id
        -- Only scorers of the same item can have scored the same answer.
        JOIN model.scorer k ON k.item_id = c.item_id
        JOIN score.machine_score m ON m.scorer_id = k.scorer_id AND m.submission_id = x.submission_id
             AND m.trait = x.trait AND m.role = 'champion'
        WHERE x.role = 'shadow' AND x.level IS NOT NULL AND m.level IS NOT NULL
        GROUP BY c.item_id, x.trait, x.scorer_id, m.scorer_id
    """,
    columns={
        "item_id": "the question",
        "trait": "the thing scored",
        "shadow_scorer_id": "the scorer that would come",
        "champion_scorer_id": "the scorer that it is compared with",
        "num_answers": "answers that both gave a level",
        "num_changed": "answers whose level would change",
        "share_changed": "the same as a share",
        "mean_change": "mean of shadow minus champion, in levels",
        "num_changed_by_two": "answers whose level would change by two or more",
        "num_new_zeros": "answers that would fall to level 0",
    },
)
