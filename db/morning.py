"""What the morning's page asks: SELECTs on the graders' views, each as it stands beneath its table.

Whoever reads the page can paste them; they hold no parameter and touch no table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import text

if TYPE_CHECKING:
    from sqlalchemy import Connection

#: A page tells of so many of the newest batches.
NUM_BATCHES = 10

BATCHES = f"""\
SELECT batch_id, source, file_name, file_format, received_at, num_accepted, num_scored, num_quarantined,
       num_waiting, num_rejected + num_conflicts AS num_refused, finished_at
FROM grader.batches
ORDER BY received_at DESC
LIMIT {NUM_BATCHES}"""

REJECTS = f"""\
SELECT batch_id, reason, count(*) AS num_rows, min(line) AS first_line
FROM grader.rejects
WHERE batch_id IN (SELECT batch_id FROM grader.batches ORDER BY received_at DESC LIMIT {NUM_BATCHES})
GROUP BY batch_id, reason
ORDER BY batch_id DESC, num_rows DESC, reason"""

CROSS_TABLES = """\
SELECT item_id, trait, scorer_id, num_levels, machine_level, human_level, num_answers
FROM grader.cross_tables
WHERE alias = 'champion'
ORDER BY item_id, trait, machine_level, human_level"""

WEEKS = """\
SELECT item_id, trait, scorer_id, week, num_pairs, qwk
FROM grader.agreement_by_week
WHERE role = 'champion' AND week > current_date - 84
ORDER BY item_id, trait, scorer_id, week"""

CONDITION_CODES = f"""\
SELECT item_id, condition_code, given_by, sum(num_answers)::bigint AS num_answers
FROM grader.condition_codes
WHERE batch_id IN (SELECT batch_id FROM grader.batches ORDER BY received_at DESC LIMIT {NUM_BATCHES})
GROUP BY item_id, condition_code, given_by
ORDER BY item_id, num_answers DESC, condition_code, given_by"""

READ_QUEUE = """\
SELECT item_id, priority, reason, count(*) AS num_reads, min(asked_at) AS oldest
FROM grader.read_queue
GROUP BY item_id, priority, reason
ORDER BY priority, num_reads DESC, item_id"""


DISTANCES = """\
SELECT first_item, second_item, distance, noise_floor, num_answers, is_solved, finished_at
FROM grader.distances
ORDER BY distance, first_item, second_item"""

MERGES = """\
SELECT merge_proposal_id, state, kind, items, verdict, method, distance, distance_rank, num_pairs,
       num_answers, qwk_change, worst_qwk_change, micro_f1_change, num_extractors_saved, num_bytes_saved,
       changed_at, changed_by, reason
FROM grader.merges
WHERE state IN ('proposed', 'shadow', 'approved') OR changed_at > now() - interval '28 days'
ORDER BY merge_proposal_id DESC"""

MERGE_ITEMS = """\
SELECT merge_proposal_id, item_id, num_answers, qwk_before, qwk_after, qwk_change, qwk_change_low,
       qwk_change_high, verdict
FROM grader.merge_items
WHERE state IN ('proposed', 'shadow', 'approved')
ORDER BY merge_proposal_id DESC, item_id"""

MERGE_CHANGES = """\
SELECT merge_proposal_id, item_id, trait, num_answers, share_changed, mean_change, num_changed_by_two,
       num_new_zeros
FROM grader.merge_changes
WHERE state IN ('proposed', 'shadow', 'approved')
ORDER BY merge_proposal_id DESC, item_id, trait"""


def level_shares(*, num_days: int) -> str:
    """How often each level was given in the last days, and before."""
    return f"""\
SELECT item_id, trait, level,
       coalesce(sum(num_answers) FILTER (WHERE day > current_date - {num_days:d}), 0)::bigint AS num_recent,
       coalesce(sum(num_answers) FILTER (WHERE day <= current_date - {num_days:d}), 0)::bigint AS num_before
FROM grader.level_shares
GROUP BY item_id, trait, level
ORDER BY item_id, trait, level"""


def ask(connection: Connection, select: str) -> list[dict[str, Any]]:
    """The rows of one of these SELECTs, by the names of their columns."""
    return [dict(row._mapping) for row in connection.execute(text(select))]
