"""A night's merging in a process of its own that stands still at a named moment, to be killed there.

    python -m tests.chaos.merge_process FOLDER DATABASE_URL MOMENT

The moments are those between two steps of the product's own code, which knows nothing of them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from db import clouds, gw_runs, merges, runs
from tests.chaos.standstill import after, before
from tests.mergetown import QUICK, merging_policy
from tests.schoolhouse import settings_for
from workers.merging import night as work
from workers.merging import trial

if TYPE_CHECKING:
    from collections.abc import Callable

PERIOD = "n1"

MOMENTS: dict[str, Callable[[Path], None]] = {
    "claimed": lambda folder: before(work.MergeNight, "_attempt", folder),
    "one cloud kept": lambda folder: after(work.Sampler, "_make", folder),
    "a cloud written, not committed": lambda folder: after(clouds, "add_cloud", folder),
    "distances computed, not kept": lambda folder: before(clouds, "add_distances", folder),
    "planned": lambda folder: before(work.MergeNight, "_tried", folder),
    "artifacts stored, not registered": lambda folder: after(trial, "store_fusion", folder),
    "proposal written, not committed": lambda folder: after(merges, "add", folder),
    "proposed, run not ended": lambda folder: before(gw_runs, "finish", folder),
    "ended, not committed": lambda folder: after(runs, "end", folder),
}


def main(folder: Path, database_url: str, moment: str) -> None:
    MOMENTS[moment](folder)
    settings = settings_for(folder, database_url, lease_s=2.0)
    from db.session import make_engine

    night = work.MergeNight(make_engine(database_url), settings, merging_policy(), fusion=QUICK)
    night.run(PERIOD)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
