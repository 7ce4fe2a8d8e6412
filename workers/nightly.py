"""What happens once a night, however many beats tick: an audit, retraining, merging, the morning's page.

Retraining, merging and the page run in processes of their own, beside the worker and behind it in
priority; they need no one to wait for them, because what they do is safe to kill and a later tick begins it
again.
"""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from db import gw_runs, runs
from workers.settings import PREFIX
from workers.telemetry import get_logger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Engine as Database

log = get_logger("nightly")

RETRAIN = "retrain"
_COMMAND = (sys.executable, "-m", "workers.cli", "retrain", "--due", "--scheduled")
_MERGE_COMMAND = (sys.executable, "-m", "workers.cli", "merges", "run", "--scheduled")
_PAGE_COMMAND = (sys.executable, "-m", "workers.cli", "report", "--scheduled")


class Errand:
    """A command that runs beside this process: one at a time, ended with it."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = list(command)
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None

    def start(self, *arguments: str, database_url: str | None = None) -> bool:
        """Start it, unless it still runs; returns whether it was started.

        Args:
            arguments: after the command's own.
            database_url: of the login that it uses; None is that of this process.
        """
        with self._lock:
            if self._child is not None and self._child.poll() is None:
                return False
            if self._child is None:
                atexit.register(self.end)
            # By the environment, which other users cannot read; arguments they can.
            login = {} if database_url is None else {f"{PREFIX}DATABASE__URL": database_url}
            # What it says goes where this process's log goes.
            self._child = subprocess.Popen(  # noqa: S603 (our own command)
                [*self._command, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={**os.environ, **login},
            )
            return True

    def end(self) -> None:
        """End it if it still runs."""
        with self._lock:
            if self._child is not None and self._child.poll() is None:
                self._child.terminate()
                self._child.wait()


_retraining = Errand(_COMMAND)
_merging = Errand(_MERGE_COMMAND)
_page = Errand(_PAGE_COMMAND)


def run_nightly(
    database: Database,
    *,
    period: str,
    retraining: Errand = _retraining,
    merging: Errand = _merging,
    page: Errand = _page,
    database_url: str | None = None,
) -> bool:
    """Audit the ledger for one period, once, and see that all else of it is done or under way.

    Args:
        database: the ledger.
        period: the night, by `workers.periods`.
        retraining: what retrains the items that are due.
        merging: what compares items and tries merges; begun once the retraining is done.
        page: what draws the reads of the night and writes the morning's page.
        database_url: of the login that retrains and merges, where that is not this process's.

    Returns:
        Whether this call was the one that audited.
    """
    # Begun now, a command might come to its senses in the next night.
    told = ("--period", period)
    with database.begin() as connection:
        is_retrained = runs.is_done(connection, kind=RETRAIN, period=period)
        is_merged = runs.is_done(connection, kind=gw_runs.KIND, period=period)
    if not is_retrained and retraining.start(*told, database_url=database_url):
        log.info("retraining_started", period=period)
    if is_retrained and not is_merged and merging.start(*told, database_url=database_url):
        log.info("merging_started", period=period)
    try:
        is_first = _audit_once(database, period)
    except SQLAlchemyError as error:
        # The next tick asks again; what it would have said holds up nothing else.
        log.exception("audit_failed", period=period, reason=type(error).__name__)
        is_first = False
    with database.begin() as connection:
        is_page_due = runs.is_morning_due(connection, period=period)
    if is_page_due and page.start(*told):
        log.info("page_started", period=period)
    return is_first


def _audit_once(database: Database, period: str) -> bool:
    # One transaction: an audit that is cut short has never begun, and the next tick makes it.
    with database.begin() as connection:
        if not runs.begin(connection, kind="nightly", period=period):
            return False
        # It reads the whole ledger, which is no runaway statement.
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        audit = runs.audit_ledger(connection)
        runs.end(connection, kind="nightly", period=period, report=audit)
    log.info("nightly_done", period=period, **audit)
    return True


def skip_retraining(database: Database, period: str) -> None:
    """Note that the policy wants no retraining by schedule, so that this period's ticks leave it alone."""
    with database.begin() as connection:
        runs.begin(connection, kind=RETRAIN, period=period)
        runs.end(connection, kind=RETRAIN, period=period, report={"automatic": False})


def skip_merging(database: Database, period: str) -> None:
    """Note that the policy wants no merging by schedule, so that this period's ticks leave it alone."""
    with database.begin() as connection:
        runs.begin(connection, kind=gw_runs.KIND, period=period)
        runs.end(connection, kind=gw_runs.KIND, period=period, report={"automatic": False})
