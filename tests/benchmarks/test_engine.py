"""`make bench NAME=engine`: the same real answers, everyone in turn, medians of the rounds.

Answers per second of CPU time on one thread; rivals in a process of their own. 27 items with trained adapters
on query and value; `ARGS=--short` takes three items and few answers. Trained scorers are kept in
`build/engine`.
"""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from scoring.backbone import Backbone
from scoring.engines import findings
from scoring.engines.torch import kernels, settle_process
from scoring.metrics import quadratic_weighted_kappa
from scoring.types import Requests
from tests.benchmarks import peak
from tests.benchmarks.fleet import ENGINES, Load, bare_twins, loaded_engine, make_load, many_twins, wide_twins
from tests.benchmarks.memory import WAYS, WHOLE, Growth, Served, memory_of
from tests.benchmarks.rivals import BATCH_TOKENS, MAX_TOKENS, RivalProcess, write_full_models
from tests.benchmarks.suite import SHORT, suite
from tests.benchmarks.trained import trained_suite
from tests.unit.tiny_encoders import store_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from scoring.artifacts import ArtifactStore
    from scoring.engines.banked import BankedEngine
    from scoring.types import ScorerKey
    from tests.benchmarks.trained import TrainedItem


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    num_answers: int = 4000
    #: Answers for those that load or switch at each one.
    num_slow: int = 200
    num_rounds: int = 5
    num_many: int = 1000
    num_invariant: int = 2000


@dataclass
class Contest:
    """Ways to score, each timed once a round."""

    ways: dict[str, tuple[Callable[[], float], int]] = field(default_factory=dict)
    rates: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, run: Callable[[], float], num_answers: int) -> None:
        """A way to score so many answers, which tells its CPU seconds."""
        self.ways[name] = run, num_answers

    def run(self, num_rounds: int) -> None:
        for number in range(1, num_rounds + 1):
            for name, (run, num_answers) in self.ways.items():
                rate = num_answers / run()
                self.rates.setdefault(name, []).append(rate)
                print(f"round {number}: {name}: {rate:.1f} answers/s", flush=True)

    def median(self, name: str) -> float:
        return statistics.median(self.rates[name])

    def ratio(self, name: str, other: str) -> float:
        """Median over the rounds of the ratio within a round: a slow minute meets both."""
        return statistics.median(a / b for a, b in zip(self.rates[name], self.rates[other], strict=True))


@pytest.mark.timeout(0)
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_engine(shared_data: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    settle_process(1)
    is_short = request.config.getoption("--short")
    size = Size(240, 12, 2, 60, 60) if is_short else Size()
    backbone = Backbone.load("minilm")
    chosen = [one for one in suite(shared_data) if not is_short or one[0].item_id in SHORT]
    store, items = trained_suite(chosen, backbone, is_short=is_short)
    load = make_load(items, size.num_answers)
    keys = [one.scorer for one in items]
    root = Path(store_folder(store)) / "extractors"
    adapters = [root / store.read_scorer(key).extractor for key in keys]
    models = write_full_models(backbone, adapters, tmp_path)
    rivals = RivalProcess("minilm", adapters, models)
    engines = _engines(store, backbone, keys)
    contest = _contest(store, backbone, keys, load, rivals, engines, size)
    contest.run(size.num_rounds)
    differences = _differences(store, keys, load.head(size.num_slow * 5), rivals, engines)
    rivals.close()
    agreement = _agreement(items, engines)
    invariant = {name: _is_invariant(engine, load, keys, size) for name, engine in engines.items()}
    served = Served.of(
        load,
        store=store_folder(store),
        keys=[str(key) for key in keys],
        adapters=[str(path) for path in adapters],
        models=[str(path) for path in models],
    )
    ways = [way for way in WAYS if "int8" not in way or kernels.int8_works()]
    memory = {way: memory_of(way, served) for way in ways}
    _print_table(contest, differences)
    for way, growth in memory.items():
        print(f"memory: {way}: {growth.peak_mb:.0f} MB at the peak, {growth.end_mb:.0f} MB at the end")
    print({"batch_invariant": invariant, **agreement})
    shares = _shares_of_peak(backbone, load, contest)
    print(json.dumps(_summary(contest, differences, agreement, invariant, memory) | shares))


def _engines(store: ArtifactStore, backbone: Backbone, keys: Sequence[ScorerKey]) -> dict[str, BankedEngine]:
    """Every engine and precision on offer; int8 is also run for all items, admitted or not."""
    precisions = ["fp32", *(["int8", "auto"] if kernels.int8_works() else [])]
    found: dict[str, BankedEngine] = {}
    for precision in precisions:
        for kind, make in ENGINES.items():
            found[f"{kind} {precision}"] = loaded_engine(
                store, backbone, keys, make=make, precision=precision, max_batch_tokens=BATCH_TOKENS
            )
    return found


def _contest(
    store: ArtifactStore,
    backbone: Backbone,
    keys: Sequence[ScorerKey],
    load: Load,
    rivals: RivalProcess,
    engines: dict[str, BankedEngine],
    size: Size,
) -> Contest:
    contest, slow = Contest(), load.head(size.num_slow)
    num = len(load.texts)

    def add_engine(name: str, engine: BankedEngine, scorers: Sequence[ScorerKey]) -> None:
        requests = load.requests(scorers)
        contest.add(name, lambda: _cpu_s(engine, requests), num)

    for name, engine in engines.items():
        add_engine(name, engine, keys)
    bare, wide = bare_twins(store, backbone, keys), wide_twins(store, backbone, keys)
    for precision in ("fp32", "int8") if kernels.int8_works() else ("fp32",):
        for name, twins in (("bare", bare), ("all-linear", wide)):
            twin = loaded_engine(
                store, backbone, twins, trusting=True, precision=precision, max_batch_tokens=BATCH_TOKENS
            )
            add_engine(f"torch {name} {precision}", twin, twins)
    many = many_twins(store, keys, size.num_many)
    add_engine("torch 1000 fp32", loaded_engine(store, backbone, many, trusting=True), many)

    def add_rival(name: str, way: str, part: Load, **options: bool) -> None:
        texts, owners = part.texts, part.owners.tolist()
        contest.add(name, lambda: rivals.run(way, texts, owners, **options)[0], len(texts))

    add_rival("PEFT mixed", "mixed", load, in_arrival_order=False)
    add_rival("PEFT mixed, arrival", "mixed", load, in_arrival_order=True)
    add_rival("PEFT grouped", "grouped", load)
    add_rival("PEFT set_adapter", "switching", slow)
    add_rival("full models", "full_models", slow)
    return contest


def _cpu_s(engine: BankedEngine, requests: Requests) -> float:
    started = time.process_time()
    engine.score(requests)
    return time.process_time() - started


def _logits(engine: BankedEngine, requests: Requests) -> np.ndarray:
    token_ids = engine.prepare(requests).token_ids
    assert token_ids is not None
    return engine._logits([engine._roster[key] for key in requests.scorers], token_ids)


def _differences(
    store: ArtifactStore,
    keys: Sequence[ScorerKey],
    load: Load,
    rivals: RivalProcess,
    engines: dict[str, BankedEngine],
) -> dict[str, float]:
    """Largest difference of a logit against PEFT."""
    _, features = rivals.run("mixed", load.texts, load.owners.tolist(), in_arrival_order=False)
    heads = [store.read_scorer(key) for key in keys]
    expected = [
        (heads[owner].head_weight @ row + heads[owner].head_bias).numpy()
        for owner, row in zip(load.owners, features, strict=True)
    ]
    found = {}
    for name, engine in engines.items():
        logits = _logits(engine, load.requests(keys))
        found[name] = max(
            float(np.abs(row[: len(right)] - right).max())
            for row, right in zip(logits, expected, strict=True)
        )
    return found


def _agreement(items: Sequence[TrainedItem], engines: dict[str, BankedEngine]) -> dict[str, float]:
    """What int8 changes on the test answers of the items that were admitted to it."""
    if "torch int8" not in engines:
        return {}
    store = engines["torch fp32"]._roster._store
    admitted = [one for one in items if findings.is_admitted(store.read_scorer(one.scorer))]
    equal: list[bool] = []
    changes: list[float] = []
    for one in admitted:
        test = [answer for answer in one.answers if answer.fold == "test"]
        requests = Requests([one.scorer] * len(test), [answer.text for answer in test])
        human = np.array([answer.levels["score"] for answer in test])
        plain, int8 = (engines[f"torch {precision}"].score(requests).level for precision in ("fp32", "int8"))
        equal += (plain == int8).tolist()
        change = quadratic_weighted_kappa(int8, human) - quadratic_weighted_kappa(plain, human)
        changes += [] if np.isnan(change) else [change]
    return {
        "admitted_share": round(len(admitted) / len(items), 3),
        "label_agreement_int8": round(float(np.mean(equal)), 4) if equal else 0.0,
        "qwk_change_int8": round(statistics.mean(changes), 4) if changes else 0.0,
    }


def _is_invariant(engine: BankedEngine, load: Load, keys: Sequence[ScorerKey], size: Size) -> bool:
    """Whether no label changes when answers stand alone, are shuffled, or come in batches of other sizes."""
    part = load.head(size.num_invariant)
    requests = part.requests(keys)
    whole = engine.score(requests).level
    rng = np.random.default_rng(1)
    for batch in (1, 7, 100, len(requests)):
        order = rng.permutation(len(requests))
        for start in range(0, len(order), batch):
            some = order[start : start + batch]
            subset = Requests([requests.scorers[n] for n in some], [requests.texts[n] for n in some])
            if not np.array_equal(engine.score(subset).level, whole[some]):
                return False
    return True


def _shares_of_peak(backbone: Backbone, load: Load, contest: Contest) -> dict[str, float]:
    lengths = [len(ids) for ids in backbone.encode(load.texts, MAX_TOKENS)]
    per_answer = statistics.mean(lengths) * peak.operations_per_token(backbone, statistics.mean(lengths))
    shares = {"share_of_peak": contest.median("torch bare fp32") * per_answer / peak.fp32_peak()}
    if "torch bare int8" in contest.rates:
        shares["share_of_peak_int8"] = contest.median("torch bare int8") * per_answer / peak.int8_peak()
    return {name: round(share, 3) for name, share in shares.items()}


def _summary(
    contest: Contest,
    differences: dict[str, float],
    agreement: dict[str, float],
    invariant: dict[str, bool],
    memory: dict[str, Growth],
) -> dict[str, float]:
    fastest = max(("torch fp32", "onnx fp32"), key=contest.median)
    served = max(
        (name for name in ("torch auto", "onnx auto", fastest) if name in contest.rates), key=contest.median
    )
    pairs = {
        "vs_bare": (fastest, "torch bare fp32"),
        "vs_bare_all_linear": ("torch all-linear fp32", "torch bare fp32"),
        "vs_peft_mixed": (served, "PEFT mixed"),
        "vs_peft_grouped": (served, "PEFT grouped"),
        "vs_peft_mixed_fp32": (fastest, "PEFT mixed"),
        "vs_peft_grouped_fp32": (fastest, "PEFT grouped"),
        "vs_peft_plain": (served, "PEFT mixed, arrival"),
        "vs_peft_set_adapter": (served, "PEFT set_adapter"),
        "vs_full_models": (served, "full models"),
        "scale_1000": ("torch 1000 fp32", "torch fp32"),
        "onnx_vs_torch": ("onnx fp32", "torch fp32"),
    }
    if "torch int8" in contest.rates:
        pairs["vs_bare_int8"] = "torch int8", "torch bare int8"
        pairs["vs_bare_all_linear_int8"] = "torch all-linear int8", "torch bare int8"
        pairs["onnx_vs_torch_int8"] = "onnx int8", "torch int8"
    return {
        **{name: round(contest.ratio(*pair), 3) for name, pair in pairs.items()},
        "memory_vs_full_models": round(memory["torch auto"].peak_mb / memory[WHOLE].peak_mb, 3),
        **agreement,
        "batch_invariant": int(all(invariant.values())),
        "max_abs_diff_fp32": max(differences["torch fp32"], differences["onnx fp32"]),
    }


def _print_table(contest: Contest, differences: dict[str, float]) -> None:
    print(f"\n| {'way':26} | answers/s |   of bare | logits off PEFT's |\n| --- | --- | --- | --- |")
    bare = contest.median("torch bare fp32")
    for name in contest.rates:
        off = f"{differences[name]:.1e}" if name in differences else ""
        rate = contest.median(name)
        print(f"| {name:26} | {rate:9.1f} | {rate / bare:9.2f} | {off:>17} |")
