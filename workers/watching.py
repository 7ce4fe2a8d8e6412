"""A watched folder: each file that has come in whole is submitted by itself, once.

Knows no broker: what is accepted is found by the workers' own repair rounds.
"""

from __future__ import annotations

import stat
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from db import intake
from scoring.errors import InvalidInputError
from workers.importers import files
from workers.intake import Reading, submit_file
from workers.telemetry import get_logger
from workers.writer import database_errors

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine as Database

    from db.intake import IntakeReport
    from workers.settings import IntakeSettings

log = get_logger("watching")

#: Names under which others write what they will rename when it is whole.
_UNFINISHED = (".part", ".partial", ".tmp", ".temp", ".crdownload", ".filepart", "~")

#: Size in bytes and time of the last change in nanoseconds: a file that has both is the same file.
Signature = tuple[int, int]


@dataclass(frozen=True, slots=True)
class WatchPolicy:
    """Where files come from and how they are read.

    A file counts as whole when it has not changed for `settle_s`. Senders who can should write under another
    name and rename.
    """

    source: str
    limits: IntakeSettings
    reading: Reading = field(default_factory=Reading)
    #: A folder for `<name>.rejects.csv` of files with refused rows.
    rejects: Path | None = None
    settle_s: float = 30.0


class Watch:
    """Looks at one folder; its subfolders, hidden files, links and unfinished names are left alone."""

    def __init__(self, database: Database, folder: Path, policy: WatchPolicy) -> None:
        self._database = database
        self._folder = folder
        self._policy = policy
        self._handled: dict[str, Signature] = {}

    def look(self) -> list[IntakeReport]:
        """Submit what has come in since the last look, oldest first.

        A file that cannot be taken is logged and not tried again until it changes.

        Raises:
            InvalidInputError: the folder cannot be read.
            DatabaseUnavailableError: Postgres does not answer; the next look tries again.
        """
        reports = []
        for path, signature in self._whole_files():
            try:
                report = self._submit(path)
            except InvalidInputError as error:
                log.warning("file_refused", file=path.name, reason=str(error))
                report = None
            # Only now: an error that may heal leaves the file for the next look.
            self._handled[path.name] = signature
            if report is not None:
                reports.append(report)
        return reports

    def _whole_files(self) -> list[tuple[Path, Signature]]:
        found, latest = [], time.time() - self._policy.settle_s
        try:
            for path in self._folder.iterdir():
                if path.name.startswith(".") or path.name.endswith(_UNFINISHED):
                    continue
                state = path.lstat()
                signature = state.st_size, state.st_mtime_ns
                if not stat.S_ISREG(state.st_mode) or self._handled.get(path.name) == signature:
                    continue
                if state.st_size and state.st_mtime <= latest:
                    found.append((path, signature))
        except FileNotFoundError:
            if not self._folder.is_dir():
                raise InvalidInputError(f"{self._folder}: no such folder") from None
        except OSError as error:
            raise InvalidInputError(f"{self._folder}: cannot be read: {error.strerror}") from error
        return sorted(found, key=lambda pair: (pair[1][1], pair[0].name))

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
