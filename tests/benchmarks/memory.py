"""Memory of one way of serving, in a process of its own: `python -m tests.benchmarks.memory WAY`.

What it serves with comes as JSON on standard input. Prints by how much resident memory grew over the imports
and the tokenizer, at its peak and at the end, in megabytes, with real answers of every item scored.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from scoring.backbone import Backbone
    from tests.benchmarks.fleet import Load

#: Answers that are scored; more would touch more of the word embeddings, ours and others'.
NUM_ANSWERS = 1000
PEFT, WHOLE = "PEFT", "full models, all held"
WAYS = ("torch fp32", "torch int8", "torch auto", "onnx fp32", "onnx auto", PEFT, WHOLE)


@dataclass(frozen=True, slots=True)
class Served:
    """Where things lie, and the answers with the numbers of their items."""

    store: str
    keys: list[str]
    adapters: list[str]
    models: list[str]
    texts: list[str]
    owners: list[int]

    @classmethod
    def of(cls, load: Load, **places: Any) -> Served:
        """The first answers of a load."""
        part = load.head(NUM_ANSWERS)
        return cls(texts=part.texts, owners=part.owners.tolist(), **places)


@dataclass(frozen=True, slots=True)
class Growth:
    """Megabytes over the imports: at the peak, and after all answers were scored."""

    peak_mb: float
    end_mb: float


def memory_of(way: str, served: Served) -> Growth:
    """Run this module for one way of serving."""
    command = [sys.executable, "-m", "tests.benchmarks.memory", way]
    root = Path(__file__).resolve().parents[2]
    told = json.dumps(asdict(served))
    done = subprocess.run(command, input=told, capture_output=True, text=True, check=True, cwd=root)
    return Growth(**json.loads(done.stdout.splitlines()[-1]))


def _engine(way: str, served: Served, backbone: Backbone) -> object:
    from scoring.artifacts import ArtifactStore
    from scoring.engines.torch.process import keep_freed_memory
    from scoring.types import Requests, ScorerKey
    from tests.benchmarks.fleet import ENGINES, loaded_engine
    from tests.benchmarks.rivals import BATCH_TOKENS

    keep_freed_memory()
    kind, precision = way.split()
    keys, store = [ScorerKey(key) for key in served.keys], ArtifactStore(served.store)
    engine = loaded_engine(
        store, backbone, keys, make=ENGINES[kind], precision=precision, max_batch_tokens=BATCH_TOKENS
    )
    engine.score(Requests([keys[owner] for owner in served.owners], served.texts))
    return engine


def _peft(served: Served, backbone: Backbone) -> object:
    from tests.benchmarks.rivals import Rivals

    rivals = Rivals(backbone, [Path(path) for path in served.adapters])
    rivals.mixed(served.texts, served.owners, in_arrival_order=False)
    return rivals


def _full(served: Served, backbone: Backbone) -> object:
    import torch
    from transformers import AutoModel

    from tests.benchmarks.rivals import MAX_TOKENS

    models = [AutoModel.from_pretrained(folder).eval() for folder in served.models]
    rows = backbone.encode(served.texts, MAX_TOKENS)
    with torch.inference_mode():
        for owner, ids in zip(served.owners, rows, strict=True):
            models[owner](input_ids=torch.tensor([ids]))
    return models


def _serve(way: str, served: Served, backbone: Backbone) -> object:
    others: dict[str, Callable[[Served, Backbone], object]] = {PEFT: _peft, WHOLE: _full}
    return others[way](served, backbone) if way in others else _engine(way, served, backbone)


def _resident_mb(field: str = "VmRSS") -> float:
    """Now, or as "VmHWM" at most so far; getrusage's peak would count the process that started this one."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status[field].split()[0]) * 1024 / 1e6


def _main(arguments: Sequence[str]) -> None:
    import onnxruntime  # noqa: F401
    import torch

    import tests.benchmarks.fleet
    import tests.benchmarks.rivals  # noqa: F401
    from scoring.backbone import Backbone

    torch.set_num_threads(1)
    served = Served(**json.load(sys.stdin))
    backbone = Backbone.load("minilm")
    backbone.encode(served.texts[:10], 128)
    before = _resident_mb()
    held = _serve(arguments[0], served, backbone)
    print(json.dumps({"peak_mb": _resident_mb("VmHWM") - before, "end_mb": _resident_mb() - before}))
    del held


if __name__ == "__main__":
    _main(sys.argv[1:])
