"""`make bench NAME=quality`: 27 items trained three ways, compared on the same held-out answers.

One process, one backbone. Every finished item is kept in `build/quality`, so that a run that was killed goes
on where it stood; `ARGS=--short` takes one item of each data set.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING

import pytest
from scipy.stats import ttest_rel

from scoring.backbone import Backbone
from scoring.config import recipe
from scoring.engines.torch import settle_process
from tests.benchmarks.quality import Trials
from tests.benchmarks.suite import SHORT, suite

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scoring.config import Method
    from tests.benchmarks.quality import Trial

METHODS: tuple[Method, ...] = ("full", "lora", "head")
KEPT = Path(__file__).resolve().parents[2] / "build" / "quality"


@dataclass(frozen=True, slots=True)
class Cell:
    """One item and method, as the table shows it."""

    qwk: float
    accuracy: float
    macro_f1: float
    cpu_s: float
    megabytes: float

    @classmethod
    def of(cls, trial: Trial, method: Method) -> Cell:
        """From a trial, with the decision that the present code fits."""
        told = trial.agreement(recipe(method))
        return cls(told.qwk, told.accuracy, told.macro_f1, trial.cpu_s, trial.num_bytes / 1e6)

    def shown(self) -> list[str]:
        """The cell's columns."""
        return [f"{self.qwk:.3f}", f"{self.accuracy:.3f}", f"{self.macro_f1:.3f}", f"{self.cpu_s:.0f}"]


@pytest.mark.timeout(0)
def test_quality(shared_data: Path, request: pytest.FixtureRequest) -> None:
    settle_process(1)
    is_short = request.config.getoption("--short")
    trials = Trials(KEPT, Backbone.load("minilm"))
    chosen = [one for one in suite(shared_data) if not is_short or one[0].item_id in SHORT]
    titles = [f"{method} {figure}" for method in METHODS for figure in ("QWK", "acc.", "F1", "CPU s")]
    print("\n" + _line(["item", "test", *titles]) + "\n" + _line(["---"] * (2 + len(titles))))
    rows: list[dict[Method, Cell]] = []
    for item, answers in chosen:
        found = {method: trials.of(item, answers, recipe(method)) for method in METHODS}
        row = {method: Cell.of(trial, method) for method, trial in found.items()}
        has_kappa = found["lora"].has_kappa
        rows += [row] if has_kappa else []
        name = item.item_id + ("" if has_kappa else " (all of one level: not in the mean)")
        shown = [column for method in METHODS for column in row[method].shown()]
        print(_line([name, str(len(found["lora"].human)), *shown]), flush=True)
    means = [column for method in METHODS for column in _mean([row[method] for row in rows]).shown()]
    print(_line(["**mean**", f"{len(rows)} items", *means]))
    summary = _summary(rows)
    print(json.dumps(summary))
    assert summary["mb_lora"] <= 0.02 * summary["mb_full"]
    assert is_short or summary["relative_loss"] <= 0.010


def _mean(cells: Sequence[Cell]) -> Cell:
    return Cell(*(mean(getattr(cell, name) for cell in cells) for name in Cell.__slots__))


def _summary(rows: Sequence[dict[Method, Cell]]) -> dict[str, float]:
    means = {method: _mean([row[method] for row in rows]) for method in METHODS}
    kappas = {method: [row[method].qwk for row in rows] for method in METHODS}
    return {
        **{f"qwk_{method}": round(means[method].qwk, 4) for method in METHODS},
        "relative_loss": round(1 - means["lora"].qwk / means["full"].qwk, 4),
        "p_value": round(float(ttest_rel(kappas["full"], kappas["lora"]).pvalue), 4),
        **{f"mb_{method}": round(means[method].megabytes, 3) for method in METHODS},
        **{f"cpu_s_{method}": round(means[method].cpu_s, 1) for method in METHODS},
        "num_items": len(rows),
        "seed": recipe("lora").seed,
    }


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
