"""Levels from a file or from the ledger become reports, each held against the policy."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np

from db import evaluations, registry
from db.evaluations import ReadLevel
from db.intake import RejectedRow
from scoring.errors import InvalidInputError
from scoring.evaluation.gates import Judgement, judge
from scoring.evaluation.reads import Reads
from scoring.evaluation.report import ItemReport, evaluate
from scoring.types import Trait
from workers.importers import files
from workers.importers.fields import FieldFault, identifier
from workers.importers.scored import Columns, ScoredRow, grouped, scored
from workers.roster import spec_of
from workers.writer import database_errors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from sqlalchemy import Connection
    from sqlalchemy import Engine as Database

    from scoring.evaluation.policy import Policy

    #: An answer's groups by the grouping's name, by the answer.
    Groups = Mapping[str, Mapping[str, str]]

_LEVELS = ("machine", "human", "first", "second")


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One scorer on one item: its agreement with people, and what the gates say to it."""

    item_id: str
    #: The scorer's number; None for levels from a file.
    scorer_id: int | None
    alias: str | None
    report: ItemReport
    judgement: Judgement
    reads: Reads


@dataclass(frozen=True, slots=True)
class Scope:
    """Which scorers of the ledger to evaluate, and by which human reads."""

    item_ids: tuple[str, ...] = ()
    scorer_ids: tuple[int, ...] = ()
    purposes: tuple[str, ...] = evaluations.COUNTING
    since: datetime | None = None


def evaluate_file(
    path: Path, columns: Columns, policy: Policy, *, max_line_bytes: int
) -> tuple[list[Evaluation], list[RejectedRow]]:
    """Evaluate a file of machine and human levels: one row an answer and trait.

    Returns:
        an evaluation an item, and the rows refused

    Raises:
        InvalidInputError: the file cannot be read, lacks a column, or no row of it can be taken.
    """
    records = files.read_records(
        files.inspect(path), required=columns.required(), max_line_bytes=max_line_bytes
    )
    by_item: defaultdict[str, list[ScoredRow]] = defaultdict(list)
    rejected: list[RejectedRow] = []
    for row in scored(records, columns):
        if isinstance(row, RejectedRow):
            rejected.append(row)
        else:
            by_item[row.item_id].append(row)
    if not by_item:
        first = f"; line {rejected[0].line}: {rejected[0].detail}" if rejected else ""
        raise InvalidInputError(f"{path}: no row with a machine's and a human level{first}")
    return [_evaluation(_file_reads(name, rows), policy) for name, rows in sorted(by_item.items())], rejected


def read_groups(path: Path, names: Sequence[str], *, max_line_bytes: int) -> Groups:
    """Groups of students by response id, from a file kept apart from the ledger.

    Raises:
        InvalidInputError: the file cannot be read, or a row of it cannot be taken.
    """
    source = files.inspect(path)
    found = {}
    for record in files.read_records(source, required=("response_id", *names), max_line_bytes=max_line_bytes):
        if isinstance(record, RejectedRow):
            raise InvalidInputError(f"{path}: line {record.line}: {record.detail}")
        try:
            found[identifier(record.fields, "response_id")] = grouped(record, names)
        except FieldFault as fault:
            raise InvalidInputError(f"{path}: line {record.line}: {fault.detail}") from fault
    return found


def evaluate_ledger(
    database: Database, scope: Scope, policy: Policy, *, groups: Groups | None = None
) -> list[Evaluation]:
    """Evaluate scorers on what they and people have said in the ledger: champions and shadows by default.

    Args:
        database: the ledger.
        scope: which scorers, which human reads.
        policy: intervals and gates.
        groups: groups by response id; they are used and not kept.

    Raises:
        InvalidInputError: no such item or scorer.
        DatabaseUnavailableError: Postgres does not answer.
    """
    with database_errors(), database.connect() as connection:
        scorers = evaluations.scorers_to_evaluate(
            connection, item_ids=scope.item_ids, scorer_ids=scope.scorer_ids
        )
        known = {one.item_id for one in scorers} | {str(one.scorer_id) for one in scorers}
        missing = {*scope.item_ids, *map(str, scope.scorer_ids)} - known
        if missing:
            raise InvalidInputError(f"no scorer to evaluate for {', '.join(sorted(missing))}")
        return [
            _evaluation(
                ledger_reads(connection, one.item_id, one.scorer_id, scope=scope, groups=groups or {}),
                policy,
                scorer_id=one.scorer_id,
                alias=one.alias,
            )
            for one in scorers
        ]


def ledger_reads(
    connection: Connection, item_id: str, scorer_id: int, *, scope: Scope, groups: Groups
) -> Reads:
    """What one scorer and people said about the same answers; answers go by their number."""
    item = spec_of(registry.load_items(connection)[item_id])
    levels = evaluations.read_levels(connection, scorer_id, since=scope.since, purposes=scope.purposes)
    rows = [(str(one.submission_id), one) for one in levels]
    names = evaluations.response_ids(connection, [one.submission_id for one in levels]) if groups else {}
    known = {str(number): groups.get(name, {}) for number, name in names.items()}
    return _reads(item_id, item.traits, rows, known)


def plain(value: object) -> Any:
    """A report as JSON values: what is not defined is null; the levels behind it are left out."""
    if is_dataclass(value) and not isinstance(value, type):
        parts = {field.name: getattr(value, field.name) for field in fields(value)}
        return {name: plain(part) for name, part in parts.items() if not isinstance(part, Reads)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if isinstance(value, dict):
        return {str(name): plain(part) for name, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, list | tuple) else value


def _evaluation(
    reads: Reads, policy: Policy, *, scorer_id: int | None = None, alias: str | None = None
) -> Evaluation:
    report = evaluate(reads, policy.evidence.bootstrap())
    return Evaluation(reads.item_id, scorer_id, alias, report, judge(report, policy), reads)


def _file_reads(item_id: str, rows: Sequence[ScoredRow]) -> Reads:
    """One item of a file; each trait has as many levels as the file shows."""
    highest: dict[str, int] = {}
    for row in rows:
        highest[row.trait] = max(row.machine, row.human, row.second or 0, highest.get(row.trait, 1))
    traits = [Trait(name, top + 1) for name, top in highest.items()]
    levels = [
        ReadLevel(
            submission_id=row.line,
            trait=row.trait,
            machine=row.machine,
            human=row.human,
            first=None if row.second is None else row.human,
            second=row.second,
        )
        for row in rows
    ]
    named = [(row.response_id, level) for row, level in zip(rows, levels, strict=True)]
    return _reads(item_id, traits, named, {row.response_id: row.groups for row in rows})


def _reads(
    item_id: str, traits: Sequence[Trait], rows: Sequence[tuple[str, ReadLevel]], groups: Groups
) -> Reads:
    """Rows of an answer and a trait, laid out as tables."""
    answers = {answer: place for place, answer in enumerate(dict.fromkeys(answer for answer, _ in rows))}
    columns = {trait.name: column for column, trait in enumerate(traits)}
    tables = {name: np.full((len(answers), len(traits)), np.nan) for name in _LEVELS}
    for answer, row in rows:
        for name, table in tables.items():
            level = getattr(row, name)
            if level is not None:
                table[answers[answer], columns[row.trait]] = level
    groupings = sorted({name for known in groups.values() for name in known})
    return Reads(
        item_id=item_id,
        traits=traits,
        response_ids=list(answers),
        groups={name: [groups.get(answer, {}).get(name, "") for answer in answers] for name in groupings},
        **tables,
    )
