"""A worker process under test: the CLI's own verb, around a perilous engine and with at most one mutant.

Only this entry point knows the variables CHAOS_*; the product has no switch for faults.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import workers.engines
from tests.chaos.mutants import MUTANTS
from tests.chaos.perils import PerilousEngine
from workers.cli.main import main


def run() -> None:
    """Run `scorefold worker` until it ends."""
    build = workers.engines.build_engine
    tally, slow_s = Path(os.environ["CHAOS_TALLY"]), float(os.environ["CHAOS_SLOW_S"])
    workers.engines.build_engine = lambda settings: PerilousEngine(
        build(settings), tally=tally, slow_s=slow_s
    )
    if mutant := os.environ.get("CHAOS_MUTANT"):
        MUTANTS[mutant]()
    sys.argv = ["scorefold", "worker"]
    main()


if __name__ == "__main__":
    run()
