"""A short night of the adversary; `make chaos` runs longer ones, with any seed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.chaos.adversary import run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


def test_nothing_is_lost_or_doubled_while_everything_breaks(tmp_path: Path) -> None:
    verdict = run(tmp_path, seed=11, duration_s=25.0)
    assert verdict.wrongs == []
    figures = verdict.figures
    assert (figures["lost"], figures["double"], figures["wrong_scorer"]) == (0, 0, 0)
    assert figures["quarantined"] == 2
    assert min(int(str(figures[name])) for name in ("accepted", "kills", "promotions")) > 0
