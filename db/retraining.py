"""Retraining as rows: who is at work on an item, what a run learned from, and what came of it.

A run belongs to an item and a period, once; while it is under way it belongs to the process that holds its
token, until its lease ends. A process that lost its lease concludes nothing; the next one takes the same row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import JSONB

from db.leases import RunLease, hold

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy import Connection


@dataclass(frozen=True, slots=True)
class RunClaim:
    """A run that belongs to this process until its lease ends."""

    training_run_id: int
    token: UUID
    period: str
    trigger: str
    num_attempts: int

    @property
    def lease(self) -> RunLease:
        """What the run's transactions are held by."""
        return RunLease(
            "training run", "model.training_run", "training_run_id", self.training_run_id, self.token
        )


@dataclass(frozen=True, slots=True)
class BusyRun:
    """A run that belongs to another process."""

    item_id: str
    worker: str
    lease_until: datetime


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to."""

    verdict: str
    decision: str
    evidence: dict[str, Any]


def claim(
    connection: Connection, item_id: str, *, period: str, trigger: str, worker: str, lease_s: float
) -> RunClaim | None:
    """Take an item's abandoned run, or begin the period's; None where it is under way or has been run."""
    values = {
        "item_id": item_id,
        "period": period,
        "trigger": trigger,
        "worker": worker,
        "lease_s": lease_s,
        "token": uuid4(),
    }
    taken = connection.execute(
        text("""
            UPDATE model.training_run
            SET token = :token, worker = :worker, num_attempts = num_attempts + 1,
                lease_until = now() + make_interval(secs => :lease_s)
            WHERE training_run_id = (
                SELECT training_run_id FROM model.training_run
                WHERE item_id = :item_id AND state = 'running' AND period IS NOT NULL
                  AND lease_until < now()
                FOR UPDATE SKIP LOCKED LIMIT 1)
            RETURNING training_run_id, token, period, trigger, num_attempts
        """),
        values,
    ).one_or_none()
    begun = (
        taken
        or connection.execute(
            text("""
            INSERT INTO model.training_run (item_id, trigger, state, period, token, worker, lease_until)
            VALUES (:item_id, :trigger, 'running', :period, :token, :worker,
                    now() + make_interval(secs => :lease_s))
            ON CONFLICT DO NOTHING
            RETURNING training_run_id, token, period, trigger, num_attempts
        """),
            values,
        ).one_or_none()
    )
    return None if begun is None else RunClaim(**begun._mapping)


def abandoned(connection: Connection) -> dict[str, str]:
    """Items whose run nobody holds any more, and the trigger of that run."""
    rows = connection.execute(
        text("""
            SELECT item_id, trigger FROM model.training_run
            WHERE state = 'running' AND period IS NOT NULL AND lease_until < now()
        """)
    )
    return {row.item_id: row.trigger for row in rows}


def abandon(connection: Connection, item_id: str) -> None:
    """Give up an item's run that nobody holds any more: the item has no champion by now."""
    connection.execute(
        text("""
            UPDATE model.training_run
            SET state = 'failed', error = 'the item has lost its champion', token = NULL, lease_until = NULL,
                finished_at = now()
            WHERE item_id = :item_id AND state = 'running' AND period IS NOT NULL AND lease_until < now()
        """),
        {"item_id": item_id},
    )


def busy(connection: Connection) -> list[BusyRun]:
    """Runs that another process holds."""
    rows = connection.execute(
        text("""
            SELECT item_id, worker, lease_until FROM model.training_run
            WHERE state = 'running' AND period IS NOT NULL AND lease_until >= now() ORDER BY item_id
        """)
    )
    return [BusyRun(**row._mapping) for row in rows]


def summary(connection: Connection, period: str) -> dict[str, int]:
    """How many runs of a period are in each state."""
    rows = connection.execute(
        text("""
            SELECT state, count(*) AS num FROM model.training_run WHERE period = :period
            GROUP BY state ORDER BY state
        """),
        {"period": period},
    )
    return {row.state: row.num for row in rows}


def record_data(
    connection: Connection,
    claimed: RunClaim,
    folds: Mapping[int, str],
    *,
    config: dict[str, Any],
    data: dict[str, Any],
) -> None:
    """Write down what a run learns from: its recipe, and each submission with its fold."""
    hold(connection, claimed.lease)
    values = {"run": claimed.training_run_id, "config": config, "data": data}
    connection.execute(
        text(
            "UPDATE model.training_run SET config = :config, data = :data WHERE training_run_id = :run"
        ).bindparams(bindparam("config", type_=JSONB), bindparam("data", type_=JSONB)),
        values,
    )
    connection.execute(text("DELETE FROM model.training_run_submission WHERE training_run_id = :run"), values)
    connection.execute(
        text("""
            INSERT INTO model.training_run_submission (training_run_id, submission_id, fold)
            SELECT :run, * FROM unnest(CAST(:ids AS bigint[]), CAST(:folds AS text[]))
        """),
        {**values, "ids": list(folds), "folds": list(folds.values())},
    )


def conclude(connection: Connection, claimed: RunClaim, outcome: Outcome) -> None:
    """Write down what a run came to; the caller holds the run and has registered its scorer."""
    connection.execute(
        text("""
            UPDATE model.training_run
            SET state = 'done', verdict = :verdict, decision = :decision, evidence = :evidence,
                token = NULL, lease_until = NULL, finished_at = now()
            WHERE training_run_id = :run
        """).bindparams(bindparam("evidence", type_=JSONB)),
        {
            "run": claimed.training_run_id,
            "verdict": outcome.verdict,
            "decision": outcome.decision,
            "evidence": outcome.evidence,
        },
    )


def give_up(connection: Connection, claimed: RunClaim, error: str) -> None:
    """Note that a run ended without a scorer; it is not tried again in its period."""
    connection.execute(
        text("""
            UPDATE model.training_run
            SET state = 'failed', error = :error, token = NULL, lease_until = NULL, finished_at = now()
            WHERE training_run_id = :run AND token = :token AND state = 'running'
        """),
        {"run": claimed.training_run_id, "token": claimed.token, "error": error},
    )
