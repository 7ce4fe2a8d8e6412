"""Where events of every door are taken in: read, judged, and what is refused kept with its bytes.

One call is one transaction. Knows neither streams nor Celery; the door settles with its sender afterwards.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy.exc import DataError, IntegrityError

from db import intake, quarantine
from db.intake import IncomingRow
from db.quarantine import Refusal
from workers.events import EventError, decode_event
from workers.importers import answers
from workers.importers.fields import FieldFault, identifier
from workers.importers.files import Record
from workers.telemetry import get_logger
from workers.writer import patiently

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Connection
    from sqlalchemy import Engine as Database

    from workers.settings import IntakeSettings

log = get_logger("doors")

#: Of longer bytes only the beginning is kept.
_MAX_KEPT_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class Letter:
    """An event as it came, and where it stood; both together tell a redelivery from a second sending."""

    payload: bytes
    place: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a handful of events: their numbers add up."""

    num_new: int
    num_repeated: int
    refused: tuple[Refusal, ...] = ()


class Desk:
    """Takes events into the ledger, for the stream, the task door and retries alike."""

    def __init__(self, database: Database, limits: IntakeSettings) -> None:
        self._database = database
        self._limits = limits

    def take(
        self,
        door: str,
        letters: Sequence[Letter],
        *,
        give_up_after_s: float = 30.0,
        stop: Callable[[], bool] = lambda: False,
    ) -> Receipt:
        """Commit events and refusals; when it returns, nothing of them is left to do.

        Raises:
            DatabaseUnavailableError: Postgres stayed away; nothing was taken.
        """

        def step() -> Receipt:
            with self._database.begin() as connection:
                receipt = self.judge(connection, door, letters)
                quarantine.keep(connection, receipt.refused)
                return receipt

        try:
            receipt = patiently(step, give_up_after_s=give_up_after_s, stop=stop)
        except (DataError, IntegrityError) as error:
            # A row that Postgres will not have, though it looked well: never its neighbours' fault.
            if len(letters) == 1:
                return self.refuse(door, letters[0], "refused_by_database", type(error.orig).__name__)
            halves = (letters[: len(letters) // 2], letters[len(letters) // 2 :])
            parts = [self.take(door, half, give_up_after_s=give_up_after_s, stop=stop) for half in halves]
            return _sum(parts)
        _tell(door, receipt)
        return receipt

    def refuse(self, door: str, letter: Letter, reason: str, detail: str) -> Receipt:
        """Keep what is no event at all, with its bytes.

        Raises:
            DatabaseUnavailableError: Postgres stayed away; nothing was kept.
        """
        receipt = Receipt(0, 0, (_refusal(door, letter, reason, detail),))

        def step() -> None:
            with self._database.begin() as connection:
                quarantine.keep(connection, receipt.refused)

        patiently(step, give_up_after_s=30.0)
        _tell(door, receipt)
        return receipt

    def judge(self, connection: Connection, door: str, letters: Sequence[Letter]) -> Receipt:
        """Take events in the caller's transaction; refusals are returned and not yet kept."""
        rows: list[tuple[str, IncomingRow]] = []
        refused: list[Refusal] = []
        for number, letter in enumerate(letters):
            try:
                rows.append(self._read(number, letter.payload))
            except EventError as error:
                refused.append(_refusal(door, letter, error.reason, str(error)))
        report = intake.accept_events(connection, rows)
        refused += [_refusal(door, letters[row.line], row.reason, row.detail) for row in report.refused]
        return Receipt(report.num_new, report.num_repeated, tuple(refused))

    def _read(self, number: int, payload: bytes) -> tuple[str, IncomingRow]:
        event = decode_event(payload, max_bytes=self._limits.max_event_bytes)
        record = Record(number, event.model_dump(exclude={"version", "source"}))
        (row,) = answers.submissions([record], max_text_chars=self._limits.max_text_chars)
        if not isinstance(row, IncomingRow):
            raise EventError(row.reason, row.detail)
        try:
            return identifier({"source": event.source}, "source"), row
        except FieldFault as fault:
            raise EventError(fault.reason, fault.detail) from fault


def kept(payload: bytes) -> bytes:
    """The bytes as quarantine holds them."""
    return payload[:_MAX_KEPT_BYTES]


def origin_of(place: str, payload: bytes) -> str:
    """What makes a redelivery of the same bytes at the same place one case."""
    return f"{place} {hashlib.sha256(payload).hexdigest()}"


def _refusal(door: str, letter: Letter, reason: str, detail: str) -> Refusal:
    return Refusal(door, reason, detail, kept(letter.payload), origin_of(letter.place, letter.payload))


def _sum(receipts: Sequence[Receipt]) -> Receipt:
    return Receipt(
        num_new=sum(receipt.num_new for receipt in receipts),
        num_repeated=sum(receipt.num_repeated for receipt in receipts),
        refused=tuple(refusal for receipt in receipts for refusal in receipt.refused),
    )


def _tell(door: str, receipt: Receipt) -> None:
    if receipt.refused:
        log.warning("events_refused", door=door, **Counter(refusal.reason for refusal in receipt.refused))
    if receipt.num_new or receipt.num_repeated:
        log.info("events_taken", door=door, num_new=receipt.num_new, num_repeated=receipt.num_repeated)
