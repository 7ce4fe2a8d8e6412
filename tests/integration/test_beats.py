"""Two clocks and two workers, all of them real processes: a night is run once."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.deployment import Deployment

if TYPE_CHECKING:
    from pathlib import Path

#: The product's own verb; only the quarter of an hour between two ticks is made half a second.
IMPATIENT_BEAT = """
import sys, workers.app
workers.app._NIGHTLY_TICK_S = 0.5
sys.argv = ["scorefold", "beat"]
from workers.cli.main import main
main()
"""
NIGHTS = "SELECT count(*) FROM ops.run WHERE kind = 'nightly' AND state = 'done'"


@pytest.mark.long
def test_two_beats_and_two_workers_make_one_night(tmp_path: Path, database_url: str, broker_url: str) -> None:
    town = Deployment.create(
        tmp_path,
        database_url=database_url,
        broker_url=broker_url,
        SCOREFOLD_TELEMETRY__LOG_LEVEL="debug",
    )
    with (tmp_path / "beats.log").open("wb") as log:
        beats = [
            subprocess.Popen(
                [sys.executable, "-c", IMPATIENT_BEAT], env=town.environment, stdout=log, stderr=log
            )
            for _ in range(2)
        ]
    town.processes += beats
    try:
        workers = [town.start_worker(), town.start_worker()]
        town.wait_until(NIGHTS, timeout_s=180)
        beats[0].send_signal(signal.SIGKILL)  # the other one goes on
        town.wait_until_log("nightly_tick", times=12)
        log_text = (tmp_path / "worker.log").read_text()
        assert log_text.count('"nightly_done"') == 1
        assert town.count(NIGHTS) == 1
        assert [process.poll() for process in (beats[1], *workers)] == [None, None, None]
    finally:
        town.close()
