"""How well machine and people agree, item by item, held against the policy; and week by week."""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from db import morning
from scoring.evaluation.gates import Verdict, judge
from scoring.evaluation.reads import Reads
from scoring.evaluation.report import NO_FIGURE, evaluate
from scoring.types import Trait
from workers.report.drawings import line
from workers.report.page import Cell, Column, Mark, Part, Remark, Section, Table, number

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Connection

    from scoring.evaluation.gates import Judgement
    from scoring.evaluation.policy import Policy
    from scoring.evaluation.report import Figure

_ANCHOR = "agreement"
_TOLD = {Verdict.PASS: "passes", Verdict.FAIL: "fails", Verdict.INCONCLUSIVE: "too few"}
_MARKS = {Verdict.PASS: Mark.GOOD, Verdict.FAIL: Mark.BAD, Verdict.INCONCLUSIVE: Mark.UNSURE}
_OF_TRAIT = itemgetter("item_id", "trait", "scorer_id")


def agreement(connection: Connection, policy: Policy) -> Part:
    """QWK, standardised mean difference and exact agreement of every champion, with intervals and flags."""
    counts = morning.ask(connection, morning.CROSS_TABLES)
    rows, remarks = [], []
    for (item_id, trait, scorer_id), group in groupby(counts, _OF_TRAIT):
        cells, judgement = _judged(list(group), policy)
        rows.append((Cell(item_id), Cell(trait), number(scorer_id), *cells))
        if judgement.verdict is Verdict.FAIL:
            remarks.append(Remark(f"Item {item_id}, {trait}: {_reasons(judgement)}.", _ANCHOR, Mark.BAD))
    coverage = f"{100 * policy.evidence.coverage:.0f}%"
    columns = (
        *(Column("item"), Column("trait"), Column("scorer", is_number=True)),
        *(Column(name, is_number=True) for name in ("answers", "QWK", "SMD", "exact")),
        Column("policy"),
    )
    table = Table(
        f"Agreement of champions with people, with {coverage} intervals",
        columns,
        rows,
        morning.CROSS_TABLES,
        note="Answers that a scorer learned from are left out. QWK, SMD and exact agreement follow from these"
        " counts; intervals are by bootstrap. scorefold evaluate also judges by groups and double reads.",
        num_heads=2,
    )
    lead = (
        f"QWK should be at least {policy.agreement.min_qwk:.2f}, the standardised mean difference (machine"
        f" less people) at most {policy.agreement.max_abs_smd:.2f} either way. Below"
        f" {policy.evidence.min_answers} answers no verdict is given."
    )
    return Part(Section(_ANCHOR, "Agreement", lead, [table, _weeks(connection, policy)]), remarks)


def _judged(counts: list[dict[str, Any]], policy: Policy) -> tuple[list[Cell], Judgement]:
    report = evaluate(_reads(counts), policy.evidence.bootstrap())
    judgement = judge(report, policy)
    figures = report.traits[0].figures
    told = [figures.get(name, NO_FIGURE) for name in ("qwk", "smd", "accuracy")]
    cells = [number(report.num_answers), *map(_figure, told)]
    return [*cells, Cell(_words(judgement), _MARKS[judgement.verdict])], judgement


def _reads(counts: list[dict[str, Any]]) -> Reads:
    """The counted pairs as if each answer stood there by itself: a figure needs no more of it."""
    times = np.array([row["num_answers"] for row in counts])
    machine, human = (
        np.repeat([float(row[name]) for row in counts], times)[:, None]
        for name in ("machine_level", "human_level")
    )
    nobody = np.full_like(machine, np.nan)
    return Reads(
        item_id=counts[0]["item_id"],
        traits=(Trait(counts[0]["trait"], counts[0]["num_levels"]),),
        response_ids=[""] * len(machine),
        machine=machine,
        human=human,
        first=nobody,
        second=nobody,
    )


def _figure(figure: Figure) -> Cell:
    if not figure.num_answers or np.isnan(figure.value):
        return Cell("–")
    told = f"{figure.value:.3f} [{figure.low:.2f}, {figure.high:.2f}]"
    return Cell(told.replace("-", "−"))


def _words(judgement: Judgement) -> str:
    if judgement.verdict is Verdict.PASS:
        return _TOLD[Verdict.PASS]
    return f"{_TOLD[judgement.verdict]}: {_reasons(judgement)}"


def _reasons(judgement: Judgement) -> str:
    told = [check for check in judgement.checks if check.verdict is judgement.verdict and check.is_required]
    return "; ".join(dict.fromkeys(f"{check.name} {check.reason}" for check in told))


def _weeks(connection: Connection, policy: Policy) -> Table:
    rows = morning.ask(connection, morning.WEEKS)
    columns = (
        *(Column("item"), Column("trait"), Column("scorer", is_number=True), Column("QWK over the weeks")),
        *(Column(name, is_number=True) for name in ("weeks", "answers", "newest QWK", "newest answers")),
    )
    cells = [
        _course(key, list(group), limit=policy.agreement.min_qwk) for key, group in groupby(rows, _OF_TRAIT)
    ]
    return Table(
        "QWK by the week in which people read, twelve weeks",
        columns,
        cells,
        morning.WEEKS,
        note=f"The dashed line is {policy.agreement.min_qwk:.2f}. A week of few answers moves by itself.",
        num_heads=2,
    )


def _course(key: tuple[str, str, int], weeks: Iterable[dict[str, Any]], *, limit: float) -> list[Cell]:
    item_id, trait, scorer_id = key
    weeks = list(weeks)
    known = [week for week in weeks if week["qwk"] is not None]
    words = ", ".join(f"{week['week']:%Y-%m-%d}: {week['qwk']:.2f}" for week in known)
    drawing = line([week["qwk"] for week in known], limit=limit, words=words) if known else None
    return [
        Cell(item_id),
        Cell(trait),
        number(scorer_id),
        Cell("" if known else "–", drawing=drawing),
        number(len(weeks)),
        number(sum(week["num_pairs"] for week in weeks)),
        number(weeks[-1]["qwk"], digits=3),
        number(weeks[-1]["num_pairs"]),
    ]
