"""How levels are spread now, before and by people's reads; and whether they have moved."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from db import morning
from scoring.evaluation.drift import population_stability_index
from workers.report.drawings import bar
from workers.report.page import Cell, Column, Mark, Part, Remark, Section, Table, number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from scoring.evaluation.policy import Policy

#: So many more of a hundred answers at level 0 than before is said aloud.
_MANY_MORE_ZEROS = 0.10


@dataclass(frozen=True, slots=True)
class _Spread:
    """One trait's answers by level: recently, before, and by people."""

    item_id: str
    trait: str
    recent: list[int]
    before: list[int]
    human: list[int]


def spread(connection: Connection, policy: Policy) -> tuple[Part, Part]:
    """Shares of levels against their reference, and drift."""
    select = morning.level_shares(num_days=policy.retraining.window_days)
    spreads = _spreads(morning.ask(connection, select), morning.ask(connection, morning.CROSS_TABLES))
    return _shares(spreads, select, policy), _drift(spreads, select, policy)


def _spreads(levels: list[dict[str, Any]], counts: list[dict[str, Any]]) -> list[_Spread]:
    human: defaultdict[tuple[str, str, int], int] = defaultdict(int)
    for row in counts:
        human[row["item_id"], row["trait"], row["human_level"]] += row["num_answers"]
    found = []
    for (item_id, trait), group in groupby(levels, itemgetter("item_id", "trait")):
        rows = list(group)
        by_people = [human[item_id, trait, row["level"]] for row in rows]
        recent, before = ([row[name] for row in rows] for name in ("num_recent", "num_before"))
        found.append(_Spread(item_id, trait, recent, before, by_people))
    return found


def _shares(spreads: list[_Spread], select: str, policy: Policy) -> Part:
    days = policy.retraining.window_days
    columns = (
        *(Column("item"), Column("trait"), Column("level", is_number=True)),
        Column("answers", is_number=True),
        *(Column(name) for name in (f"machine, last {days} days", "machine, before", "people")),
    )
    rows = [row for one in spreads for row in _share_rows(one)]
    table = Table(
        "Share of each level",
        columns,
        rows,
        f"{select};\n\n-- people:\n{morning.CROSS_TABLES}",
        note="A level that no answer was given stands there with 0.",
        num_heads=3,
    )
    lead = (
        "What the machine gives now, beside what it gave before and what people gave. A rise of zeros is what"
        " people outside will ask about first."
    )
    remarks = [
        Remark(
            f"Item {one.item_id}, {one.trait}: {100 * now:.0f}% of the answers are at level 0,"
            f" {100 * then:.0f}% before.",
            "shares",
            Mark.BAD,
        )
        for one in spreads
        if _is_enough(one, policy)
        for now, then in [(_portion(one.recent, 0), _portion(one.before, 0))]
        if now - then >= _MANY_MORE_ZEROS
    ]
    return Part(Section("shares", "Score shares", lead, [table]), remarks)


def _share_rows(one: _Spread) -> list[list[Cell]]:
    return [
        [
            Cell(one.item_id),
            Cell(one.trait),
            number(level),
            number(one.recent[level]),
            _share(one.recent, level, kind="recent"),
            _share(one.before, level, kind="before"),
            _share(one.human, level, kind="people"),
        ]
        for level in range(len(one.recent))
    ]


def _share(counts: Sequence[int], level: int, *, kind: str) -> Cell:
    if not sum(counts):
        return Cell("–")
    share = _portion(counts, level)
    return Cell(f"{100 * share:.1f}%", drawing=bar(share, kind=kind))


def _portion(counts: Sequence[int], level: int) -> float:
    return counts[level] / sum(counts) if sum(counts) else 0.0


def _is_enough(one: _Spread, policy: Policy) -> bool:
    return min(sum(one.recent), sum(one.before)) >= policy.evidence.min_answers


def _drift(spreads: list[_Spread], select: str, policy: Policy) -> Part:
    limit, days = policy.retraining.max_psi, policy.retraining.window_days
    rows, remarks = [], []
    for one in spreads:
        psi = population_stability_index(one.recent, one.before) if _is_enough(one, policy) else None
        moved = psi is not None and psi > limit
        told = "too few" if psi is None else "has moved" if moved else "steady"
        mark = Mark.UNSURE if psi is None else Mark.BAD if moved else Mark.GOOD
        recent, before = number(sum(one.recent)), number(sum(one.before))
        rows.append(
            (Cell(one.item_id), Cell(one.trait), recent, before, number(psi, digits=3), Cell(told, mark))
        )
        if moved:
            words = f"Item {one.item_id}, {one.trait}: shares of levels have moved, PSI {psi:.2f}."
            remarks.append(Remark(words, "drift", Mark.BAD))
    columns = (
        *(Column("item"), Column("trait")),
        *(Column(name, is_number=True) for name in (f"answers, last {days} days", "answers before", "PSI")),
        Column("verdict"),
    )
    table = Table("Population stability index of the levels", columns, rows, select, num_heads=2)
    lead = (
        f"Above {limit:.2f} an item's levels have moved. With fewer than {policy.evidence.min_answers}"
        " answers on either side the index is mostly noise and is not shown."
    )
    return Part(Section("drift", "Drift", lead, [table]), remarks)
