"""`make bench NAME=engine`: our banked engine against PEFT's mixed batches, on the same real answers.

Answers per second of this thread's CPU time, the two taking turns in one process, medians of the rounds: the
ratio is what counts, the absolute figures depend on the machine.
"""

from __future__ import annotations

import json
import statistics
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModel

from scoring.artifacts import ArtifactStore
from scoring.backbone import Backbone, resolve_backbone
from scoring.config import EngineConfig
from scoring.engines.torch import TorchEngine
from scoring.types import Requests
from tests.unit.tiny_encoders import BERT_LINEARS, write_adapter, write_scorer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NUM_ADAPTERS = 27
NUM_ANSWERS = 540
NUM_ROUNDS = 5
MAX_TOKENS = 128
BATCH_TOKENS = 1024


@pytest.mark.parametrize("targets", [("query", "value"), BERT_LINEARS], ids=["query-value", "all-linear"])
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.timeout(1800)
def test_engine_against_peft(targets: tuple[str, ...], shared_data: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    texts = _real_answers(shared_data)
    backbone, store = Backbone.load("minilm"), ArtifactStore(tmp_path)
    extractors = [write_adapter(store, backbone, seed=seed, targets=targets) for seed in range(NUM_ADAPTERS)]
    keys = [
        write_scorer(store, backbone, extractor, name=f"item{number}", max_tokens=MAX_TOKENS)
        for number, extractor in enumerate(extractors)
    ]
    engine = TorchEngine(backbone, store, EngineConfig(max_batch_tokens=BATCH_TOKENS))
    for key in keys:
        engine.load(key)
    requests = Requests([keys[number % NUM_ADAPTERS] for number in range(len(texts))], texts)
    peft = _peft_mixed(backbone, store, extractors, texts)
    rates: dict[str, list[float]] = {"engine": [], "peft_mixed": []}
    for _ in range(NUM_ROUNDS):
        rates["engine"].append(_rate(lambda: engine.score(requests), len(texts)))
        rates["peft_mixed"].append(_rate(peft, len(texts)))
    medians = {name: statistics.median(found) for name, found in rates.items()}
    for name, rate in medians.items():
        print(f"{'+'.join(targets):60} {name:12} {rate:8.1f} answers per CPU second")
    summary = {
        "targets": len(targets),
        "vs_peft_mixed_fp32": round(medians["engine"] / medians["peft_mixed"], 3),
    }
    print(json.dumps(summary | {name: round(rate, 1) for name, rate in medians.items()}))


def _real_answers(folder: Path) -> list[str]:
    texts: dict[str, None] = {}
    for name in ("uk-mind-20", "saf-de", "beetle"):
        with (folder / f"{name}.jsonl").open(encoding="utf-8") as lines:
            texts |= dict.fromkeys(json.loads(line)["text"] for line in lines)
    # No duplicates: they would be scored once by the engine and again and again by PEFT.
    chosen = np.random.default_rng(0).permutation(len(texts))[:NUM_ANSWERS]
    every = list(texts)
    return [every[place] for place in chosen]


def _peft_mixed(
    backbone: Backbone, store: ArtifactStore, extractors: list[str], texts: list[str]
) -> Callable[[], None]:
    """PEFT with `adapter_names=`, answers sorted by length and cut by the same token budget."""
    shape = store.read_extractor(extractors[0]).lora
    config = LoraConfig(r=shape.rank, lora_alpha=shape.alpha, target_modules=list(shape.target_modules))
    model = get_peft_model(AutoModel.from_pretrained(resolve_backbone("minilm")), config, adapter_name="a0")
    for number in range(1, NUM_ADAPTERS):
        model.add_adapter(f"a{number}", config)
    model.eval()

    def run() -> None:
        rows = backbone.encode(texts, MAX_TOKENS)
        order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
        start = 0
        while start < len(order):
            end = start
            while end < len(order) and (end + 1 - start) * len(rows[order[end]]) <= BATCH_TOKENS:
                end += 1
            batch = order[start:end]
            width = len(rows[batch[-1]])
            ids = torch.tensor([rows[row] + [0] * (width - len(rows[row])) for row in batch])
            mask = torch.tensor([[1] * len(rows[row]) + [0] * (width - len(rows[row])) for row in batch])
            names = [f"a{row % NUM_ADAPTERS}" for row in batch]
            with torch.inference_mode():
                states = model(input_ids=ids, attention_mask=mask, adapter_names=names).last_hidden_state
                (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
            start = end

    return run


def _rate(run: Callable[[], object], num_answers: int) -> float:
    started = time.thread_time()
    run()
    return num_answers / (time.thread_time() - started)
