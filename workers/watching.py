"""A watched folder, or prefix of an object store: each file that has come in whole is submitted, once.

Knows no broker: what is accepted is found by the workers' own repair rounds.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from db import intake
from scoring.errors import InvalidInputError, LocalFaultError, StoreUnavailableError
from workers.importers import files
from workers.intake import Reading, submit_file
from workers.telemetry import get_logger
from workers.writer import database_errors

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine as Database

    from db.intake import IntakeReport
    from workers.inbox import Inbox
    from workers.settings import IntakeSettings

log = get_logger("watching")


@dataclass(frozen=True, slots=True)
class WatchPolicy:
    """What the files are and how they are read."""

    source: str
    limits: IntakeSettings
    reading: Reading = field(default_factory=Reading)
    #: A folder for `<name>.rejects.csv` of files with refused rows.
    rejects: Path | None = None


class Watch:
    """Looks into one inbox, and remembers what it has handled.

    Attributes:
        not_taken: files of the last look that were refused or left, and why
    """

    def __init__(self, database: Database, inbox: Inbox, policy: WatchPolicy) -> None:
        self._database = database
        self._inbox = inbox
        self._policy = policy
        self._handled: dict[str, tuple[object, ...]] = {}
        self.not_taken: dict[str, str] = {}

    def look(self) -> list[IntakeReport]:
        """Submit what has come in since the last look, oldest first.

        A file that cannot be taken is logged and not tried again until it changes. One that cannot be
        fetched, or that this machine is in the way of, is left for the next look and keeps no other waiting.

        Raises:
            InvalidInputError: the folder cannot be read.
            LocalFaultError: this machine was in the way of all that is new; the next look tries again.
            DatabaseUnavailableError: Postgres does not answer; likewise.
            StoreUnavailableError: the object store does not answer, or gave nothing of what is new; likewise.
        """
        reports, num_handled = [], 0
        self.not_taken = {}
        fault: LocalFaultError | StoreUnavailableError | None = None
        for arrival in self._inbox.arrivals():
            if self._handled.get(arrival.name) == arrival.signature:
                continue
            try:
                with self._inbox.opened(arrival) as path:
                    report = self._submit(path)
            except (LocalFaultError, StoreUnavailableError) as error:
                log.warning("file_left", file=arrival.name, reason=str(error))
                self.not_taken[arrival.name] = str(error)
                fault = fault or error
                continue
            except InvalidInputError as error:
                log.warning("file_refused", file=arrival.name, reason=str(error))
                self.not_taken[arrival.name] = str(error)
                report = None
            # Only now: an error that may heal leaves the file for the next look.
            self._handled[arrival.name] = arrival.signature
            num_handled += 1
            if report is not None:
                reports.append(report)
        if fault is not None and not num_handled:
            raise fault
        return reports

    def _submit(self, path: Path) -> IntakeReport | None:
        file = files.inspect(path, encoding=self._policy.reading.settings.encoding)
        with database_errors(), self._database.connect() as connection:
            batch_id = intake.known_batch(connection, source=self._policy.source, file_sha256=file.sha256)
        if batch_id is not None:
            log.info("file_known", file=path.name, batch_id=batch_id)
            return None
        folder = self._policy.rejects
        rejects = None if folder is None else folder / f"{path.name}.rejects.csv"
        reading = replace(self._policy.reading, rejects=rejects)
        report = submit_file(
            self._database, path, source=self._policy.source, limits=self._policy.limits, reading=reading
        )
        if rejects is not None and not report.num_rejected + report.num_conflicts:
            rejects.unlink()
        log.info(
            "file_accepted",
            file=path.name,
            batch_id=report.batch_id,
            file_format=report.file_format,
            num_new=report.num_new,
            num_conflicts=report.num_conflicts,
            num_rejected=report.num_rejected,
        )
        return report
