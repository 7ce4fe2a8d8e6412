"""The exporter's own list against the ledger: the proof of "nothing lost, nothing twice"."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from db import reconcile as tables
from db.reconcile import ListedRow
from scoring.errors import InvalidInputError
from workers.importers import files
from workers.importers.fields import FieldFault, answer_text, identifier, optional_identifier, whole_number
from workers.writer import database_errors

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from sqlalchemy import Engine as Database

    from db.judging import RejectedRow
    from db.reconcile import Reconciliation
    from workers.importers.files import Record
    from workers.settings import IntakeSettings


def reconcile(database: Database, manifest: Path, *, source: str, limits: IntakeSettings) -> Reconciliation:
    """Compare a manifest with the ledger.

    Args:
        database: the ledger.
        manifest: CSV or JSON lines with `response_id`, and where known `attempt`, `item_id` and `text`; what
            it names is compared.
        source: whose responses these are, as they were submitted.
        limits: the longest line and text.

    Raises:
        InvalidInputError: the file or one of its rows cannot be read; a list with holes proves nothing.
        DatabaseUnavailableError: Postgres does not answer.
    """
    file = files.inspect(manifest)
    records = files.read_records(file, required=("response_id",), max_line_bytes=limits.max_line_bytes)
    with database_errors(), database.connect() as connection:
        rows = _listed(manifest, records, limits.max_text_chars)
        return tables.reconcile(connection, rows, source=source)


def _listed(path: Path, records: Iterable[Record | RejectedRow], max_chars: int) -> Iterator[ListedRow]:
    for record in records:
        if not isinstance(record, files.Record):
            raise InvalidInputError(f"{path}: line {record.line}: {record.detail}")
        try:
            yield _row(record, max_chars)
        except FieldFault as fault:
            raise InvalidInputError(f"{path}: line {record.line}: {fault.detail}") from fault


def _row(record: Record, max_chars: int) -> ListedRow:
    fields = record.fields
    item_id = optional_identifier(fields, "item_id")
    content = None
    if item_id is not None and fields.get("text") is not None:
        # The same digest as at intake, so that the texts themselves need not be compared.
        raw = answer_text(fields, max_chars=max_chars)
        content = hashlib.sha256(item_id.encode() + b"\x00" + raw.encode()).digest()
    return ListedRow(
        line=record.line,
        response_id=identifier(fields, "response_id"),
        attempt=whole_number(fields, "attempt", least=1, default=1),
        item_id=item_id,
        content_sha256=content,
    )
