"""`make bench NAME=merging`: what it costs to let the suite's items share extractors.

Groups are chosen by GW and by cheaper criteria, for a third and for half of the extractors saved; each plan
is merged with heads kept, with heads fitted again, and jointly trained. All is kept in `build/merging`, so
that a run that was killed goes on; `ARGS=--short` takes seven items and one plan.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.stats import ttest_rel

from scoring.backbone import Backbone
from scoring.engines.torch import settle_process
from scoring.evaluation.policy import read_policy
from scoring.merging.criteria import random_criterion
from scoring.merging.evidence import FIGURES, compare
from scoring.merging.groups import GroupRules, choose_groups
from tests.benchmarks.merging import METHODS, WEIGHT_WAYS, Study
from tests.benchmarks.suite import suite

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scoring.merging.evidence import GroupEvidence

KEPT = Path(__file__).resolve().parents[2] / "build" / "merging"
SHARES = {"half": 0.5, "third": 1 / 3}
CRITERIA = ("gw", "cosine", "cka", "subspace", "gradient", "prompt")
NUM_DRAWS, NUM_JOINT_DRAWS = 20, 3
#: Small items of each language, so that the short version takes minutes.
SHORT = (
    "mind-sf-2",
    "mind-ss-brian",
    "saf-de-3",
    "saf-de-6",
    "beetle-opt1-explain-q2",
    "beetle-opt2-explain-q",
    "beetle-parallel-switch-explain-q3",
)


class Plans:
    """Plans by criterion and share, and what each cost; the same group in two plans is merged once."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self._rules = GroupRules(max_group_size=3, blocks=study.blocks)

    def groups(self, criterion: str, share: float, *, way: str = "optimal") -> tuple[tuple[str, ...], ...]:
        """The groups of a plan; "random-7" is the draw of seed 7."""
        if criterion.startswith("random-"):
            draw = random_criterion(int(criterion.removeprefix("random-")))
            clouds = {name: Drawn(name) for name in self.study.items}
            distances = {pair: draw(*(clouds[name] for name in pair)) for pair in self.study.gw}
        else:
            distances = self.study.dissimilarities(criterion)
        return choose_groups(
            distances, share_saved=share, threshold=None, rules=self._rules, method=way
        ).groups

    def cost(self, groups: Sequence[Sequence[str]], method: str) -> GroupEvidence:
        """All items of the suite, before and after."""
        after = {}
        for group in groups:
            after |= self.study.after(group, method)
        return compare(self.study.paired(after), read_policy())


class Drawn:
    """As much of a profile as a random draw looks at."""

    def __init__(self, name: str) -> None:
        self.cloud = self
        self.item_id = name


@pytest.mark.timeout(0)
def test_merging(shared_data: Path, request: pytest.FixtureRequest) -> None:
    settle_process(1)
    is_short = request.config.getoption("--short")
    chosen = [one for one in suite(shared_data) if not is_short or one[0].item_id in SHORT]
    plans = Plans(Study(KEPT, chosen, Backbone.load("minilm")))
    print("\n" + _line(["share", "groups by", "heads", "saved", *FIGURES, "QWK, 95% interval"]), flush=True)
    costs: dict[tuple[str, str, str], GroupEvidence] = {}
    for share, criterion, method in _wanted(is_short=is_short):
        groups = plans.groups(criterion, SHARES[share])
        costs[share, criterion, method] = found = plans.cost(groups, method)
        print(_row(share, criterion, method, groups, found), flush=True)
    if not is_short:
        _compare_ways(plans)
    print(json.dumps(_summary(costs, is_short=is_short)))


def _compare_ways(plans: Plans) -> None:
    """Other ways to choose groups by GW, and to merge weights without an answer."""
    for way in ("greedy", "average_linkage"):
        groups = plans.groups("gw", SHARES["half"], way=way)
        print(_row("half", f"gw, {way}", "refitted", groups, plans.cost(groups, "refitted")), flush=True)
    groups = plans.groups("gw", SHARES["half"])
    for method in WEIGHT_WAYS:
        print(_row("half", "gw", method, groups, plans.cost(groups, method)), flush=True)


def _wanted(*, is_short: bool) -> list[tuple[str, str, str]]:
    """Plans in the order of their worth, should the run be cut off."""
    gw = [("half", "gw", method) for method in METHODS]
    if is_short:
        return gw
    refitted, taught = (
        {share: [(share, f"random-{draw}", method) for draw in range(num_draws)] for share in SHARES}
        for method, num_draws in (("refitted", NUM_DRAWS), ("joint", NUM_JOINT_DRAWS))
    )
    others = {
        (share, method): [(share, criterion, method) for criterion in CRITERIA[1:]]
        for share in SHARES
        for method in METHODS
    }
    return [
        *gw,
        *refitted["half"],
        *others["half", "kept"],
        *others["half", "refitted"],
        *taught["half"],
        *[("third", "gw", method) for method in METHODS],
        *others["half", "joint"],
        *others["third", "kept"],
        *others["third", "refitted"],
        *others["third", "joint"],
        *refitted["third"],
        *taught["third"],
    ]


def _summary(
    costs: dict[tuple[str, str, str], GroupEvidence], *, is_short: bool
) -> dict[str, float | int | None]:
    best, kept = costs["half", "gw", "joint"], costs["half", "gw", "kept"]
    told: dict[str, float | int | None] = {
        "micro_f1_loss_half": _points(best, "micro_f1"),
        "qwk_loss_half": round(-best.changes["qwk"].value, 4),
        "gw_vs_random_p": None,
        "gw_less_random_qwk": None,
        "heads_kept_loss": _points(kept, "micro_f1"),
        "num_items": len(best.items),
        "seed": read_policy().evidence.seed,
    }
    if not is_short:
        gw = _qwk_changes(costs["half", "gw", "refitted"])
        draws = [_qwk_changes(costs["half", f"random-{draw}", "refitted"]) for draw in range(NUM_DRAWS)]
        # Item by item: what GW costs it, against what chance costs it on the mean.
        chance = np.nanmean(draws, axis=0)
        told["gw_vs_random_p"] = round(float(ttest_rel(gw, chance, nan_policy="omit").pvalue), 4)
        told["gw_less_random_qwk"] = round(float(np.nanmean(gw - chance)), 4)
    return told


def _qwk_changes(found: GroupEvidence) -> np.ndarray:
    return np.array([one.figures["qwk"].change.value for one in found.items])


def _points(found: GroupEvidence, name: str) -> float:
    return round(-100 * found.changes[name].value, 2)


def _row(
    share: str, criterion: str, method: str, groups: Sequence[Sequence[str]], found: GroupEvidence
) -> str:
    after = [
        f"{np.nanmean([one.figures[name].after for one in found.items]):.4f}"
        f" ({found.changes[name].value:+.4f})"
        for name in FIGURES
    ]
    change = found.changes["qwk"]
    saved = str(sum(len(group) - 1 for group in groups))
    return _line([share, criterion, method, saved, *after, f"{change.low:+.4f} to {change.high:+.4f}"])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
