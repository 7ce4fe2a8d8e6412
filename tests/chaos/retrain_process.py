"""Retraining in a process of its own that stands still at a named moment, to be killed there.

    python -m tests.chaos.retrain_process FOLDER DATABASE_URL MOMENT

The moments are those between two steps of the product's own code, which knows nothing of them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from db import retraining, runs
from tests.chaos.standstill import after, before, stand_still
from tests.schoolhouse import QUICK, policy, settings_for
from workers import challenge
from workers import retraining as work

if TYPE_CHECKING:
    from collections.abc import Callable

PERIOD = "w1"


MOMENTS: dict[str, Callable[[Path], None]] = {
    "claimed": lambda folder: before(work.Retrainer, "_attempt", folder),
    "lineage written, not committed": lambda folder: after(retraining, "record_data", folder),
    "artifacts stored, not registered": lambda folder: after(challenge, "train_item", folder),
    "concluded, not committed": lambda folder: after(work, "conclude", folder),
    "committed, period not ended": lambda folder: before(runs, "end", folder),
}
#: Reached by the training itself, after its second epoch.
IN_TRAINING = "in the middle of training"


def main(folder: Path, database_url: str, moment: str) -> None:
    def progress(_item: str, num_done: int, _num_epochs: int) -> None:
        if moment == IN_TRAINING and num_done == 2:
            stand_still(folder)

    if moment in MOMENTS:
        MOMENTS[moment](folder)
    settings = settings_for(folder, database_url, lease_s=2.0)
    from db.session import make_engine

    retrainer = work.Retrainer(make_engine(database_url), settings, policy(), config=QUICK, num_threads=1)
    list(retrainer.run_due(PERIOD, progress=progress))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
