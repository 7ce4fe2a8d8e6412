"""The engine by itself on a file of answers: `python -m tests.benchmarks.engine_alone STORE FILE ...`.

Loads, says "ready", waits for a line, scores in calls of a message's size, and prints seconds as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scoring.engines.banked import BankedEngine
    from scoring.types import ScorerKey

_CALL_SIZE = 512


def main() -> None:
    """Score what the arguments name."""
    from scoring.types import Requests

    store, answers, precision, part, num_parts = sys.argv[1:]
    rows = [json.loads(line) for line in Path(answers).read_text(encoding="utf-8").splitlines()]
    mine = rows[int(part) :: int(num_parts)]
    engine = _engine(store, {row["scorer"] for row in mine}, precision)
    print("ready", flush=True)
    sys.stdin.readline()
    wall, cpu = time.monotonic(), time.process_time()
    for start in range(0, len(mine), _CALL_SIZE):
        call = mine[start : start + _CALL_SIZE]
        engine.score(Requests([row["scorer"] for row in call], [row["text"] for row in call]))
    print(json.dumps({"wall_s": time.monotonic() - wall, "cpu_s": time.process_time() - cpu}), flush=True)


def _engine(store: str, keys: set[ScorerKey], precision: str) -> BankedEngine:
    from scoring.artifacts import ArtifactStore
    from scoring.backbone import Backbone
    from scoring.engines.torch import settle_process
    from tests.benchmarks.fleet import loaded_engine

    settle_process(1)
    backbone, chosen = Backbone.load("minilm"), sorted(keys)
    return loaded_engine(ArtifactStore(store), backbone, chosen, precision=precision, max_batch_tokens=None)


if __name__ == "__main__":
    main()
