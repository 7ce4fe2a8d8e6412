"""Memory of one way of serving, in a process of its own: `python -m tests.benchmarks.memory WAY STORE ...`.

Prints the growth of resident memory over the imports, in megabytes, after a first batch was scored.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_TEXTS = ["the ice melts because the sun warms it"] * 8


def memory_mb(way: str, store: Path, arguments: Sequence[str]) -> float:
    """Run this module for one way of serving."""
    command = [sys.executable, "-m", "tests.benchmarks.memory", way, str(store), *arguments]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root)
    return float(done.stdout.splitlines()[-1])


def _engine(store: str, keys: Sequence[str], precision: str) -> object:
    from scoring.artifacts import ArtifactStore
    from scoring.backbone import Backbone
    from scoring.types import Requests, ScorerKey
    from tests.benchmarks.fleet import torch_engine

    chosen = [ScorerKey(key) for key in keys]
    engine = torch_engine(
        ArtifactStore(store), Backbone.load("minilm"), chosen, trusting=True, precision=precision
    )
    engine.score(Requests(chosen, [_TEXTS[0]] * len(chosen)))
    return engine


def _full(folders: Sequence[str]) -> object:
    import torch
    from transformers import AutoModel

    models = [AutoModel.from_pretrained(folder).eval() for folder in folders]
    with torch.inference_mode():
        for model in models:
            model(input_ids=torch.tensor([[101, 2003, 102]]))
    return models


def _resident_mb() -> float:
    with Path("/proc/self/statm").open(encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1e6


def _main() -> None:
    import peft  # noqa: F401
    import transformers  # noqa: F401

    from scoring.engines.torch import settle_process

    settle_process(1)
    way, store, *arguments = sys.argv[1:]
    before = _resident_mb()
    held = _full(arguments) if way == "full" else _engine(store, arguments, way)
    print(_resident_mb() - before)
    del held


if __name__ == "__main__":
    _main()
