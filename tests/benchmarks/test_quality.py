"""`make bench NAME=quality`: 27 items trained three ways, compared on the same held-out answers.

One process, one backbone. Every finished item is kept in `build/quality`, so that a run that was killed goes
on where it stood; `ARGS=--short` takes one item of each data set.
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING

import pytest
import torch
from scipy.stats import ttest_rel

from scoring.backbone import Backbone
from scoring.config import recipe
from tests.benchmarks.quality import Trials
from tests.benchmarks.suite import SHORT, suite

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scoring.config import Method
    from tests.benchmarks.quality import Trial

METHODS: tuple[Method, ...] = ("full", "lora", "head")
KEPT = Path(__file__).resolve().parents[2] / "build" / "quality"


@pytest.mark.timeout(0)
def test_quality(shared_data: Path, request: pytest.FixtureRequest) -> None:
    torch.set_num_threads(1)
    is_short = request.config.getoption("--short")
    trials = Trials(KEPT, Backbone.load("minilm"))
    chosen = [one for one in suite(shared_data) if not is_short or one[0].item_id in SHORT]
    titles = [f"{method} {figure}" for method in METHODS for figure in ("QWK", "acc.", "F1", "CPU s")]
    print("\n" + _line(["item", "test", *titles]) + "\n" + _line(["---"] * (2 + len(titles))))
    rows: list[dict[Method, Trial]] = []
    for item, answers in chosen:
        rows.append({method: trials.of(item, answers, recipe(method)) for method in METHODS})
        print(_line(_cells(rows[-1])), flush=True)
    told = [row for row in rows if row["lora"].num_human_levels > 1]
    print(_line(["**mean**", f"{len(told)} items", *_means(told)]))
    for row in rows:
        if row not in told:
            print(f"{row['lora'].item_id}: all test answers have one level, so it has no kappa to compare")
    summary = _summary(told)
    print(json.dumps(summary))
    assert summary["mb_lora"] <= 0.02 * summary["mb_full"]
    assert is_short or summary["relative_loss"] <= 0.010


def _summary(rows: Sequence[dict[Method, Trial]]) -> dict[str, float]:
    kappas = {method: [row[method].qwk for row in rows] for method in METHODS}
    means = {f"qwk_{method}": round(mean(kappas[method]), 4) for method in METHODS}
    megabytes = {
        f"mb_{method}": round(mean(row[method].num_bytes for row in rows) / 1e6, 3) for method in METHODS
    }
    return {
        **means,
        "relative_loss": round(1 - mean(kappas["lora"]) / mean(kappas["full"]), 4),
        "p_value": round(float(ttest_rel(kappas["full"], kappas["lora"]).pvalue), 4),
        **megabytes,
        "num_items": len(rows),
        "seed": recipe("lora").seed,
    }


def _cells(row: dict[Method, Trial]) -> list[str]:
    any_trial = row["lora"]
    cells = [any_trial.item_id, str(any_trial.num_test)]
    for method in METHODS:
        one = row[method]
        cells += [f"{one.qwk:.3f}", f"{one.accuracy:.3f}", f"{one.macro_f1:.3f}", f"{one.cpu_s:.0f}"]
    return cells


def _means(rows: Sequence[dict[Method, Trial]]) -> list[str]:
    cells = []
    for method in METHODS:
        trials = [row[method] for row in rows]
        cells += [
            f"{mean(getattr(one, figure) for one in trials):.3f}"
            for figure in ("qwk", "accuracy", "macro_f1")
        ]
        cells.append(f"{mean(one.cpu_s for one in trials):.0f}")
    return cells


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
