"""The verb evaluate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workers.cli.main import app, keep_apart
from workers.cli.options import MAX_NUMBER
from workers.cli.printing import print_json, print_table, remark, say

if TYPE_CHECKING:
    from db.intake import RejectedRow
    from scoring.evaluation.policy import Policy
    from scoring.evaluation.report import Figure, ItemReport
    from workers.evaluating import Evaluation
    from workers.settings import Settings

#: Done, but some rows were refused.
_PARTLY = 3
#: A hundred years; the calendar's beginning is not much further.
_MAX_DAYS = 36_525


@app.command()
def evaluate(
    file: Annotated[
        Path | None, typer.Argument(help="machine and human levels, CSV or JSON lines; without it the ledger")
    ] = None,
    item: Annotated[list[str] | None, typer.Option(help="only this item; may be repeated")] = None,
    scorer: Annotated[
        list[int] | None,
        typer.Option(
            min=1, max=MAX_NUMBER, help="this scorer instead of champions and shadows; may be repeated"
        ),
    ] = None,
    purpose: Annotated[
        list[str] | None, typer.Option(help="only human reads of this purpose; may be repeated")
    ] = None,
    days: Annotated[
        int | None, typer.Option(min=1, max=_MAX_DAYS, help="only what people read in so many days")
    ] = None,
    machine: Annotated[str, typer.Option(help="column of the machine's level in FILE")] = "machine",
    human: Annotated[str, typer.Option(help="column of the human level in FILE")] = "human",
    second: Annotated[str, typer.Option(help="column of a second human level in FILE")] = "second",
    group: Annotated[
        list[str] | None, typer.Option(help="column with a group of students; may be repeated")
    ] = None,
    groups: Annotated[
        Path | None, typer.Option(help="file with response_id and the --group columns, for the ledger")
    ] = None,
    policy: Annotated[Path | None, typer.Option(help="thresholds; see docs/policy.md")] = None,
    rsmtool: Annotated[
        Path | None, typer.Option(help="write this CSV for rsmeval, and a .json beside it")
    ] = None,
    trait: Annotated[str | None, typer.Option(help="the trait that --rsmtool is about")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Compare machine levels with human ones: agreement with intervals, groups, and the gates' verdict.

    Without FILE the ledger is asked about champions and shadows; answers that a scorer learned from are left
    out. FILE has response_id, machine, human and, where they apply, item_id, trait, second and groups.
    """
    from scoring.errors import InvalidInputError
    from workers.evaluating import evaluate_file, plain
    from workers.importers.scored import Columns
    from workers.policies import find_policy
    from workers.rsmtool import config_beside, write_rsmeval
    from workers.settings import load_settings

    if rsmtool is not None:
        keep_apart(
            {"--rsmtool": rsmtool, "the .json beside --rsmtool": config_beside(rsmtool)},
            {"FILE": file, "--groups": groups, "--policy": policy},
        )
    settings = load_settings()
    rules = find_policy(settings, policy)
    rejected: list[RejectedRow] = []
    if file is None:
        named = _Named(item or [], scorer or [], purpose or [], days, group or [], groups)
        found = _from_ledger(settings, rules, named)
    elif scorer or purpose or days or groups:
        raise InvalidInputError("--scorer, --purpose, --days and --groups ask the ledger, not FILE")
    else:
        columns = Columns(machine, human, second, tuple(group or ()))
        found, rejected = evaluate_file(file, columns, rules, max_line_bytes=settings.intake.max_line_bytes)
        found = [one for one in found if not item or one.item_id in item]
    for row in rejected[:20]:
        remark(f"{file}: line {row.line}: {row.detail} ({row.reason})", style="yellow")
    if rsmtool is not None:
        if len(found) != 1:
            raise InvalidInputError(
                f"--rsmtool is about one scorer, these are {len(found)}: choose with --item or --scorer"
            )
        config = write_rsmeval(rsmtool, found[0], trait=trait)
        remark(f"written: {rsmtool} and {config}; run `rsmeval {config}`")
    if as_json:
        print_json(plain(found))
    else:
        _show(found)
    raise typer.Exit(_PARTLY if rejected else 0)


@dataclass(frozen=True, slots=True)
class _Named:
    """What the options say about the ledger."""

    items: list[str]
    scorers: list[int]
    purposes: list[str]
    days: int | None
    groupings: list[str]
    groups: Path | None


def _from_ledger(settings: Settings, rules: Policy, named: _Named) -> list[Evaluation]:
    from db.evaluations import COUNTING
    from db.session import make_engine
    from scoring.errors import InvalidInputError
    from workers.evaluating import Scope, evaluate_ledger, read_groups
    from workers.places import database_url

    unknown = set(named.purposes) - set(COUNTING)
    if unknown:
        raise typer.BadParameter(f"--purpose {min(unknown)}: one of {', '.join(COUNTING)}")
    if bool(named.groups) != bool(named.groupings):
        raise InvalidInputError("--groups FILE and --group COLUMN go together: the ledger knows no groups")
    groups = None
    if named.groups is not None:
        groups = read_groups(named.groups, named.groupings, max_line_bytes=settings.intake.max_line_bytes)
    since = None if named.days is None else datetime.now(UTC) - timedelta(days=named.days)
    scope = Scope(tuple(named.items), tuple(named.scorers), tuple(named.purposes) or COUNTING, since)
    return evaluate_ledger(make_engine(database_url(settings)), scope, rules, groups=groups)


def _show(found: list[Evaluation]) -> None:
    if not found:
        say("no item has a champion yet: train one, or name a FILE")
        return
    for one in found:
        title = f"{one.item_id}, {_served(one)}: {one.judgement.verdict.value}"
        print_table(("trait", "figure", "n", "value", "from", "to"), _rows(one.report), title=title)
        for check in one.judgement.checks:
            say(f"  {check.trait}: {check.name}: {check.verdict.value}, {check.reason}")
        say()


def _rows(report: ItemReport) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for trait in report.traits:
        figures = [*trait.figures.items(), ("human_qwk", trait.human_qwk)]
        figures += [(f"dsm {one.grouping}={one.group}", one.dsm) for one in trait.groups]
        rows += [(trait.trait, *_cells(name, figure)) for name, figure in figures if figure is not None]
        rows += [
            (trait.trait, f"exact on {one.level}", one.num_human, one.num_both / one.num_human, None, None)
            for one in trait.levels
            if one.num_human
        ]
    return rows + [("all", *_cells(name, figure)) for name, figure in report.figures.items()]


def _cells(name: str, figure: Figure) -> tuple[object, ...]:
    values = (figure.value, figure.low, figure.high)
    return (name, figure.num_answers, *(None if math.isnan(value) else value for value in values))


def _served(one: Evaluation) -> str:
    return "from a file" if one.scorer_id is None else f"scorer {one.scorer_id} {one.alias or ''}".rstrip()
