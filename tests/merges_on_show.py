"""A night of distances and two proposals by plain SQL: what the page of merges shows."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

from sqlalchemy import text

from tests import rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

_CLOUD = """
INSERT INTO model.gw_cloud (digest, item_id, scorer_id, num_answers, hidden_size, seed, scale, noise_floor,
                            features)
VALUES (:digest, :item_id, :scorer_id, 400, 1, 1, 1.0, 0.02, decode(repeat('00', 800), 'hex'))
"""
_DISTANCE = """
INSERT INTO model.gw_distance (first_digest, second_digest, settings_key, distance, lower_bound, num_answers,
                               is_solved, is_certified, gw_run_id)
VALUES (:first, :second, 'key', :distance, 0, 400, true, false, :run)
"""
_PROPOSAL = """
INSERT INTO model.merge_proposal (gw_run_id, kind, state, items, criterion, method, distance, distance_rank,
                                  num_pairs, noise_floor, num_extractors_saved, num_bytes_before,
                                  num_bytes_after, verdict, evidence)
VALUES (:run, 'merge', :state, :items, 'gw', 'joint', 0.031, 2, 66, 0.02, 1, 90000, 50000, 'pass',
        CAST(:evidence AS jsonb))
RETURNING merge_proposal_id
"""


def place(connection: Connection, items: Sequence[str]) -> dict[str, int]:
    """Odd items apart from even ones; the first two are proposed for a merge, the next two are rejected."""
    scorers = rows.serve(connection, *items)
    run = connection.execute(
        text("""
            INSERT INTO model.gw_run (period, trigger, state, settings, finished_at)
            VALUES ('2026-01-01', 'schedule', 'done', '{"settings_key": "key"}', now()) RETURNING gw_run_id
        """)
    ).scalar_one()
    for item in items:
        connection.execute(text(_CLOUD), {"digest": f"d-{item}", "item_id": item, "scorer_id": scorers[item]})
        connection.execute(
            text("INSERT INTO model.gw_run_cloud VALUES (:run, :item, :digest)"),
            {"run": run, "item": item, "digest": f"d-{item}"},
        )
    for at, first in enumerate(items):
        for place_, second in enumerate(items[at + 1 :], start=at + 1):
            distance = 0.01 * math.log1p(place_ - at) + 0.1 * ((at + place_) % 2)
            pair = sorted([first, second])
            connection.execute(
                text(_DISTANCE),
                {"first": f"d-{pair[0]}", "second": f"d-{pair[1]}", "distance": distance, "run": run},
            )
    for state, pair in (("proposed", items[:2]), ("rejected", items[2:4])):
        _propose(connection, run, scorers, state=state, pair=sorted(pair))
    return scorers


def _propose(
    connection: Connection, run: int, scorers: dict[str, int], *, state: str, pair: list[str]
) -> None:
    evidence = json.dumps({"changes": {"micro_f1": {"value": -0.01}}})
    values = {"run": run, "state": state, "items": pair, "evidence": evidence}
    number = connection.execute(text(_PROPOSAL), values).scalar_one()
    connection.execute(
        text("""
            INSERT INTO model.merge_event (merge_proposal_id, actor, state, reason)
            VALUES (:number, 'nightly', :state, '2 of 66 pairs')
        """),
        {"number": number, "state": state},
    )
    for item in pair:
        connection.execute(
            text("""
                INSERT INTO model.merge_member (merge_proposal_id, item_id, scorer_before, scorer_after,
                                                num_answers, qwk_before, qwk_after, qwk_change_low,
                                                qwk_change_high, verdict)
                VALUES (:number, :item, :scorer, :scorer, 240, 0.81, 0.80, -0.03, 0.01, 'pass')
            """),
            {"number": number, "item": item, "scorer": scorers[item]},
        )
