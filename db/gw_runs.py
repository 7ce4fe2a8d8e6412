"""GW runs as rows: one a period, and while it is under way in the hands of who holds its token.

A process that lost its lease concludes nothing; the next one takes the same row and goes on from its report.
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

    from sqlalchemy import Connection


#: The kind of the scheduled run (table `ops.run`) that a GW run belongs to.
KIND = "merge"


@dataclass(frozen=True, slots=True)
class GwRunClaim:
    """A run that belongs to this process until its lease ends; `report` is what an earlier attempt left."""

    gw_run_id: int
    token: UUID
    period: str
    num_attempts: int
    report: dict[str, Any]

    @property
    def lease(self) -> RunLease:
        """What the run's transactions are held by."""
        return RunLease("GW run", "model.gw_run", "gw_run_id", self.gw_run_id, self.token)


def claim(
    connection: Connection, *, period: str, trigger: str, worker: str, lease_s: float
) -> GwRunClaim | None:
    """Take a run whose process died, or begin the period's; None while one is under way or has been done."""
    values = {"period": period, "trigger": trigger, "worker": worker, "lease_s": lease_s, "token": uuid4()}
    # One after the other: two processes that begin at once would both find none under way.
    connection.execute(text("LOCK TABLE model.gw_run IN SHARE ROW EXCLUSIVE MODE"))
    row = (
        connection.execute(
            text("""
            UPDATE model.gw_run
            SET token = :token, worker = :worker, num_attempts = num_attempts + 1,
                lease_until = now() + make_interval(secs => :lease_s)
            WHERE gw_run_id = (SELECT gw_run_id FROM model.gw_run
                               WHERE state = 'running' AND lease_until < now() ORDER BY 1 LIMIT 1)
            RETURNING gw_run_id, token, period, num_attempts, report
        """),
            values,
        ).one_or_none()
        or connection.execute(
            text("""
            INSERT INTO model.gw_run (period, trigger, state, token, worker, lease_until)
            SELECT :period, :trigger, 'running', :token, :worker, now() + make_interval(secs => :lease_s)
            WHERE NOT EXISTS (SELECT FROM model.gw_run WHERE state = 'running' OR period = :period)
            RETURNING gw_run_id, token, period, num_attempts, report
        """),
            values,
        ).one_or_none()
    )
    return None if row is None else GwRunClaim(**row._mapping)


def state_of(connection: Connection, period: str) -> tuple[str, str | None] | None:
    """State and holder of a period's run; None if there is none."""
    row = connection.execute(
        text("SELECT state, worker FROM model.gw_run WHERE period = :period"), {"period": period}
    ).one_or_none()
    return None if row is None else (row.state, row.worker)


def note(
    connection: Connection,
    claimed: GwRunClaim,
    *,
    settings: Mapping[str, Any] | None = None,
    report: Mapping[str, Any] | None = None,
) -> None:
    """Add to a run's settings and report; what is said anew replaces what was said."""
    hold(connection, claimed.lease)
    connection.execute(
        text("""
            UPDATE model.gw_run SET settings = settings || :settings, report = report || :report
            WHERE gw_run_id = :run
        """).bindparams(bindparam("settings", type_=JSONB), bindparam("report", type_=JSONB)),
        {"run": claimed.gw_run_id, "settings": dict(settings or {}), "report": dict(report or {})},
    )


def finish(connection: Connection, claimed: GwRunClaim, *, error: str | None = None) -> None:
    """Note that a run is done, or has failed and why; the caller has said what it found.

    Raises:
        LeaseLostError: it is no longer ours.
    """
    hold(connection, claimed.lease)
    connection.execute(
        text("""
            UPDATE model.gw_run
            SET state = :state, error = :error, token = NULL, lease_until = NULL, finished_at = now()
            WHERE gw_run_id = :run
        """),
        {"run": claimed.gw_run_id, "state": "done" if error is None else "failed", "error": error},
    )
