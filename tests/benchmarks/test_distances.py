"""`make bench NAME=distances`: the nearest pairs of items, against a plain loop over POT's solver.

Features of the suite's 27 items by the bare backbone, and 1,000 items simulated from them. The plain loop is
`ot.gromov.gromov_wasserstein` as it comes, on the same matrices, run on a sample of the pairs and multiplied
up. CPU seconds, those of all processes together, one BLAS thread each; `ARGS=--short` takes 60 simulated
items in place of 1,000.
"""

from __future__ import annotations

import json
import os
import resource
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import ot
import pytest

from scoring.backbone import Backbone
from scoring.merging.clouds import FeatureCloud, sample_rows
from scoring.merging.crew import crew
from scoring.merging.distances import GwSettings, gw_distance, noise_floor
from scoring.merging.extraction import SharedReader
from scoring.merging.field import PairField
from scoring.merging.search import SearchEffort, nearest_pairs
from tests.benchmarks.simulated_items import simulate
from tests.benchmarks.suite import suite
from tests.made_clouds import blobs, cloud

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from scoring.merging.search import PairDistance, SearchReport

SETTINGS = GwSettings()
NUM_NEAREST = 200
NUM_ANSWERS = 800
#: Pairs on which the plain loop is timed.
NUM_SAMPLED = 24
CHANGED_SHARE = 0.02
#: Pairs left out that are solved to see what was missed, as many in each stratum.
NUM_AUDITED = 1000
#: Pairs of one origin, nearest by an estimate from all answers, that are solved to see which are the nearest.
NUM_CHECKED = 1500


@pytest.fixture(scope="module")
def features(shared_data: Path) -> dict[str, np.ndarray]:
    """Up to 800 answers of each item by the bare backbone [num_answers, hidden]."""
    backbone = Backbone.load("minilm")
    reader = SharedReader(backbone, num_lower=backbone.num_layers - 1)
    found = {}
    for spec, answers in suite(shared_data):
        rows = sample_rows(len(answers), max_rows=NUM_ANSWERS, seed=0, item_id=spec.item_id)
        found[spec.item_id] = reader.features(reader.read([answers[row].text for row in rows]), {})
    return found


@pytest.mark.timeout(6 * 3600)
def test_distances(features: dict[str, np.ndarray], request: pytest.FixtureRequest) -> None:
    is_short = request.config.getoption("--short")
    num_items = 60 if is_short else 1000
    sizes = [30, 60] if is_short else [250, 1000]
    summary = _real(features) | _made() | _simulated(features, sizes=sizes)
    summary = {name.replace(f"_{num_items}", "_1000"): value for name, value in summary.items()}
    print(json.dumps({"num_simulated": num_items} | summary))
    assert is_short or (summary["recall_1000"] >= 0.98 and summary["solved_share_1000"] <= 0.05)
    assert is_short or (summary["speedup_1000"] >= 20 and summary["second_night_share"] < 0.05)


def _real(features: dict[str, np.ndarray]) -> dict[str, float]:
    clouds = [FeatureCloud.of(item, rows) for item, rows in features.items()]
    report, seconds = _timed(clouds, num_pairs=None)
    plain, gain = _plain_loop(clouds)
    with crew(1):
        floors = [noise_floor(one, SETTINGS) for one in clouds if len(one) >= 2 * SETTINGS.num_answers]
    cutoff = report.pairs[19].distance
    bounded = sum(pair.lower_bound > cutoff for pair in report.pairs)
    distances = np.array([pair.distance for pair in report.pairs])
    print(
        f"27 real items: {report.num_pairs} pairs, {seconds:.1f} s, plain loop {plain:.1f} s (extrapolated), "
        f"GW^2 {gain:.3f} of the plain loop's; distances {distances.min():.4f}-{distances.max():.4f}, "
        f"noise floors of {len(floors)} items {min(floors):.4f}-{max(floors):.4f}; "
        f"bounded away from the 20 nearest: {bounded}",
        flush=True,
    )
    return {
        "speedup_27": round(plain / seconds, 2),
        "gw_of_plain_27": round(gain, 3),
        "bounded_share_27": round(bounded / report.num_pairs, 3),
    }


def _made() -> dict[str, float]:
    """27 clouds of nine kinds in two dimensions: where bounds bite."""
    rng = np.random.default_rng(0)
    kinds = [blobs(kind, num_answers=100, num_dims=2) for kind in range(9)]
    clouds = [
        cloud(f"made{place:02}", kinds[place % 9] + 0.02 * rng.normal(size=(100, 2))) for place in range(27)
    ]
    report, seconds = _timed(clouds, num_pairs=20)
    print(
        f"27 made clouds, 20 nearest, exactly: {report.num_solved} of {report.num_pairs} pairs solved, "
        f"{report.num_bounded_away} bounded away, {seconds:.1f} s"
    )
    return {"bounded_share_made": round(report.num_bounded_away / report.num_pairs, 3)}


def _simulated(features: dict[str, np.ndarray], *, sizes: Sequence[int]) -> dict[str, float]:
    rows = simulate([*features.values()], num_items=max(sizes), num_answers=SETTINGS.num_answers, seed=0)
    everyone = [FeatureCloud.of(f"item{place:04}", item) for place, item in enumerate(rows)]
    summary: dict[str, float] = {}
    for size in sizes:
        clouds = everyone[:size]
        report, seconds = _timed(clouds, num_pairs=min(NUM_NEAREST, size))
        plain, gain = _plain_loop(clouds)
        _tell(f"{size} simulated items", report, seconds, plain)
        summary |= {
            f"speedup_{size}": round(plain / seconds, 1),
            f"solved_share_{size}": round(report.num_solved / report.num_pairs, 4),
            f"recall_{size}": round(_recall(clouds, report, num_origins=len(features)), 4),
            f"recall_audited_{size}": round(report.recall, 4),
            f"certified_share_{size}": round(report.certified_share, 4),
            f"gw_of_plain_{size}": round(gain, 3),
            f"cpu_s_{size}": round(seconds, 1),
        }
    return summary | {"second_night_share": round(_second_night(clouds, features, report) / seconds, 4)}


def _recall(clouds: Sequence[FeatureCloud], report: SearchReport, *, num_origins: int) -> float:
    """Share found of the nearest pairs, looked for among all pairs of items of one origin.

    Of these, every one gets the estimate from all answers, which is off the solver's distance by .002, and
    the nearest by it are solved. Among pairs of two origins the search's own audit looks.
    """
    everyone = PairField(clouds, settings=SETTINGS, rungs=[SETTINGS.num_answers])
    alike = np.flatnonzero(everyone.first % num_origins == everyone.second % num_origins)
    with crew(_num_cores()) as workers:
        everyone.sift(alike, workers, num_answers=SETTINGS.num_answers)
        estimates = everyone.estimates[SETTINGS.num_answers][alike]
        everyone.solve(alike[np.argsort(estimates)][:NUM_CHECKED], workers)
    found = {(pair.first, pair.second) for pair in report.pairs}
    solved = np.flatnonzero(everyone.is_solved)
    nearest = solved[np.argsort(everyone.distances[solved])][: len(found)]
    wanted = {(pair.first, pair.second) for pair in everyone.verdicts(nearest, cutoff=np.inf)}
    print(
        f"of the {len(found)} nearest of {len(alike)} pairs of one origin, up to "
        f"{everyone.distances[nearest[-1]]:.4f}, {len(found & wanted)} were found; the last one solved "
        f"had {everyone.distances[solved].max():.4f}",
        flush=True,
    )
    return len(found & wanted) / len(found)


def _num_cores() -> int:
    return len(os.sched_getaffinity(0))


def _second_night(
    clouds: Sequence[FeatureCloud], features: dict[str, np.ndarray], first: SearchReport
) -> float:
    num_changed = int(np.ceil(CHANGED_SHARE * len(clouds)))
    rows = simulate([*features.values()], num_items=num_changed, num_answers=SETTINGS.num_answers, seed=1)
    changed = [FeatureCloud.of(one.item_id, item) for one, item in zip(clouds, rows, strict=False)]
    others = [replace(one, summary=first.summaries[one.digest]) for one in clouds[num_changed:]]
    digest_of = {one.item_id: one.digest for one in clouds}
    known = {(digest_of[pair.first], digest_of[pair.second]): pair for pair in first.examined}
    report, seconds = _timed(
        [*changed, *others], num_pairs=len(first.pairs), known=known, judged=first.judged
    )
    _tell(f"the next night, {num_changed} items changed", report, seconds, None)
    return seconds


def _timed(
    clouds: Sequence[FeatureCloud],
    *,
    num_pairs: int | None,
    known: dict[tuple[str, str], PairDistance] | None = None,
    judged: frozenset[str] = frozenset(),
) -> tuple[SearchReport, float]:
    is_large = len(clouds) > 100
    effort = SearchEffort(max_exact_pairs=400)  # 27 items exactly, more by the ladder
    if is_large:
        num_processes = _num_cores() if known is None else 1
        effort = replace(effort, num_audited=NUM_AUDITED, num_processes=num_processes)
    started = _cpu_s()
    report = nearest_pairs(
        clouds,
        num_pairs=num_pairs,
        threshold=None,
        settings=SETTINGS,
        known=known or {},
        judged=judged,
        effort=effort,
    )
    return report, _cpu_s() - started


def _cpu_s() -> float:
    """CPU seconds of this process and of those that it has started and seen end."""
    return sum(os.times()[:4])


def _plain_loop(clouds: Sequence[FeatureCloud]) -> tuple[float, float]:
    """CPU seconds of the plain loop over all pairs, from a sample, and mean GW^2 found here over its own."""
    first, second = np.triu_indices(len(clouds), k=1)
    sample = np.random.default_rng(0).permutation(len(first))[:NUM_SAMPLED]
    seconds, ratios = 0.0, []
    with crew(1):
        for place in sample:
            one, other = (SETTINGS.relations(clouds[end]) for end in (first[place], second[place]))
            started = time.process_time()
            _, log = ot.gromov.gromov_wasserstein(one.matrix, other.matrix, log=True)
            seconds += time.process_time() - started
            ratios.append((2 * gw_distance(one, other, SETTINGS).distance) ** 2 / float(log["gw_dist"]))
    return seconds / len(sample) * len(first), float(np.mean(ratios))


def _tell(name: str, report: SearchReport, seconds: float, plain: float | None) -> None:
    memory_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    against = "" if plain is None else f", plain loop {plain:.0f} s (extrapolated)"
    print(
        f"{name}: {report.num_pairs} pairs, {report.num_solved} solved ({report.num_audited} to audit), "
        f"{report.num_sifted} estimates, {report.num_reused} reused, {report.num_bounded_away} bounded away, "
        f"recall {report.recall:.3f}, cutoff {report.cutoff:.4f}; {seconds:.1f} s{against}; "
        f"peak memory {memory_mib:.0f} MiB",
        flush=True,
    )
