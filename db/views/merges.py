"""Which merges are pending, what each would change, and how far apart the items are."""

from __future__ import annotations

from db.views.view import View

MERGES = View(
    name="merges",
    comment="One row per merge proposal: its items, how far it is, and what is known about it.",
    select="""
        SELECT p.merge_proposal_id, p.state, p.kind, p.items, p.verdict, p.method, p.criterion, p.distance,
               p.distance_rank, p.num_pairs, p.noise_floor, m.num_answers, m.qwk_change, m.worst_qwk_change,
               (p.evidence -> 'changes' -> 'micro_f1' ->> 'value')::float8 AS micro_f1_change,
               (p.evidence -> 'changes' -> 'macro_f1' ->> 'value')::float8 AS macro_f1_change,
               (p.evidence -> 'changes' -> 'exact_match' ->> 'value')::float8 AS exact_match_change,
               p.num_extractors_saved, p.num_bytes_before - p.num_bytes_after AS num_bytes_saved,
               p.created_at AS proposed_at, e.at AS changed_at, e.actor AS changed_by, e.reason
        FROM model.merge_proposal p
        CROSS JOIN LATERAL (
            SELECT sum(b.num_answers) AS num_answers, avg(b.qwk_after - b.qwk_before) AS qwk_change,
                   min(b.qwk_after - b.qwk_before) AS worst_qwk_change
            FROM model.merge_member b WHERE b.merge_proposal_id = p.merge_proposal_id
        ) m
        CROSS JOIN LATERAL (
            SELECT e.at, e.actor, e.reason FROM model.merge_event e
            WHERE e.merge_proposal_id = p.merge_proposal_id ORDER BY e.merge_event_id DESC LIMIT 1
        ) e
    """,
    columns={
        "merge_proposal_id": "number of the proposal",
        "state": (
            "proposed; shadow: scores beside the champions, unseen; approved: will be promoted; promoted;"
            " rolled_back; rejected; superseded by a later night's"
        ),
        "kind": "merge: of items with extractors of their own; join: to a group that stands; split: it parts",
        "items": "the items that would share one extractor",
        "verdict": "what the policy says of the evidence: pass, fail or inconclusive (too few human scores)",
        "method": "how the extractor was made: joint, least_squares, mean; own for a split",
        "criterion": "what chose the group: gw is the Gromov-Wasserstein distance",
        "distance": "largest dissimilarity within the group by the criterion",
        "distance_rank": "place of that pair among all pairs of the night, from 1",
        "num_pairs": "how many pairs there were",
        "noise_floor": "largest distance between two samples of one item of the group",
        "num_answers": "held-out human-scored answers behind the figures, all items together",
        "qwk_change": "mean over the items of QWK after less before",
        "worst_qwk_change": "the same for the item that loses most",
        "micro_f1_change": "mean over the items of micro F1 after less before",
        "macro_f1_change": "mean over the items of macro F1 after less before",
        "exact_match_change": "mean over the items of exact match after less before",
        "num_extractors_saved": "how many extractors fewer there would be",
        "num_bytes_saved": "bytes on disk saved",
        "proposed_at": "when it was proposed",
        "changed_at": "when it came to its present state",
        "changed_by": "who brought it there: a person, or nightly, or policy",
        "reason": "why",
    },
)

MERGE_ITEMS = View(
    name="merge_items",
    comment="One row per merge proposal and item: both scorers on the same held-out human-scored answers.",
    select="""
        SELECT b.merge_proposal_id, p.state, b.item_id, b.scorer_before, b.scorer_after, b.num_answers,
               b.qwk_before, b.qwk_after, b.qwk_after - b.qwk_before AS qwk_change, b.qwk_change_low,
               b.qwk_change_high, b.verdict, b.figures
        FROM model.merge_member b JOIN model.merge_proposal p USING (merge_proposal_id)
    """,
    columns={
        "merge_proposal_id": "number of the proposal",
        "state": "how far the proposal is",
        "item_id": "the question",
        "scorer_before": "the scorer that the item had when it was measured",
        "scorer_after": "the scorer that it would have",
        "num_answers": "held-out human-scored answers that both were measured on and neither learned from",
        "qwk_before": "quadratic weighted kappa of the scorer before, mean over traits",
        "qwk_after": "quadratic weighted kappa of the scorer after, mean over traits",
        "qwk_change": "after less before",
        "qwk_change_low": "lower end of the paired bootstrap interval of the change",
        "qwk_change_high": "upper end of it",
        "verdict": "pass, fail or inconclusive for this item",
        "figures": "every figure before, after and its change with interval",
    },
)

MERGE_CHANGES = View(
    name="merge_changes",
    comment="Per merge proposal, item and trait: what would change (or did) on answers that both scored.",
    select="""
        SELECT b.merge_proposal_id, p.state, b.item_id, c.trait, b.scorer_before, b.scorer_after,
               c.num_answers, c.num_changed, c.share_changed, c.mean_change, c.num_changed_by_two,
               c.num_new_zeros
        FROM model.merge_member b
        JOIN model.merge_proposal p USING (merge_proposal_id)
        CROSS JOIN LATERAL (
            SELECT x.trait, count(*) AS num_answers,
                   count(*) FILTER (WHERE x.level <> m.level) AS num_changed,
                   avg((x.level <> m.level)::int)::float8 AS share_changed,
                   avg(x.level - m.level)::float8 AS mean_change,
                   count(*) FILTER (WHERE abs(x.level - m.level) >= 2) AS num_changed_by_two,
                   count(*) FILTER (WHERE x.level = 0 AND m.level > 0) AS num_new_zeros
            FROM score.machine_score x
            JOIN score.machine_score m ON m.submission_id = x.submission_id AND m.trait = x.trait
                 AND m.scorer_id = b.scorer_before
            WHERE x.scorer_id = b.scorer_after AND x.role = 'shadow'
              AND x.level IS NOT NULL AND m.level IS NOT NULL
            GROUP BY x.trait
        ) c
    """,
    columns={
        "merge_proposal_id": "number of the proposal",
        "state": "how far the proposal is",
        "item_id": "the question",
        "trait": "the thing scored",
        "scorer_before": "the scorer that the item has",
        "scorer_after": "the scorer that it would have",
        "num_answers": "live answers that both gave a level; none before the shadow period begins",
        "num_changed": "answers whose level would change",
        "share_changed": "the same as a share",
        "mean_change": "mean of after minus before, in levels",
        "num_changed_by_two": "answers whose level would change by two or more",
        "num_new_zeros": "answers that would fall to level 0",
    },
)

DISTANCES = View(
    name="distances",
    comment="One row per pair of items compared by the newest finished nightly run: how far apart they are.",
    select="""
        SELECT r.gw_run_id, r.finished_at, a.item_id AS first_item, b.item_id AS second_item, d.distance,
               d.lower_bound, d.num_answers, d.is_solved, d.is_certified,
               greatest(x.noise_floor, y.noise_floor) AS noise_floor, d.computed_at
        FROM (SELECT g.gw_run_id, g.finished_at, g.settings ->> 'settings_key' AS settings_key
              FROM model.gw_run g WHERE g.state = 'done' ORDER BY g.gw_run_id DESC LIMIT 1) r
        JOIN model.gw_run_cloud a USING (gw_run_id)
        JOIN model.gw_distance d ON d.first_digest = a.digest AND d.settings_key = r.settings_key
        JOIN model.gw_run_cloud b ON b.gw_run_id = r.gw_run_id AND b.digest = d.second_digest
        JOIN model.gw_cloud x ON x.digest = a.digest
        JOIN model.gw_cloud y ON y.digest = b.digest
    """,
    columns={
        "gw_run_id": "number of the run",
        "finished_at": "when that run was done",
        "first_item": "one of the two questions; the smaller name",
        "second_item": "the other",
        "distance": "Gromov-Wasserstein distance of their feature clouds, scaled by each cloud's spread",
        "lower_bound": "what the distance is at least, by Memoli's bounds",
        "num_answers": "answers a side it was computed on; fewer than the run asks for is a coarse value",
        "is_solved": "whether the solver ran on all the answers that the run asks for",
        "is_certified": "whether the pair's place among the nearest rests on bounds alone",
        "noise_floor": "the larger distance between two samples of one and the same of the two items",
        "computed_at": "when it was computed; an unchanged pair is not computed again",
    },
)
