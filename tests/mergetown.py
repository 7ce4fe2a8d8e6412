"""A town whose items can be merged: champions with adapters of one shape, answers that people have read."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from scoring.merging.fusing import FusionConfig
from scoring.merging.joint import JointConfig
from tests.schoolhouse import School, policy
from workers.merging.night import MergeNight

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from scoring.evaluation.policy import Policy
    from workers.merging.night import Night

#: Enough to learn a little in a second.
BRIEF = FusionConfig(min_read=30, joint=JointConfig(max_epochs=4, adapter_lr=5e-3, head_lr=1e-2))
#: For what does not depend on how well a merge is made.
QUICK = replace(BRIEF, method="least_squares")


def merging_policy(**changes: object) -> Policy:
    """A policy for small towns: few answers are enough, and every near pair is tried."""
    small = {
        "num_answers": 40,
        "min_answers": 30,
        "min_margin": 0.0,
        "max_group_size": 2,
        "min_shadow_answers": 0,
        "max_qwk_loss": 0.3,
        "max_mean_qwk_loss": 0.3,
    }
    return policy(merging={**small, **changes})


class MergeTown(School):
    """A school with nights."""

    @classmethod
    def create(cls, folder: Path, database_url: str, *, lease_s: float = 20.0) -> MergeTown:
        made = super().create(folder, database_url, lease_s=lease_s)
        return cls(made.town, made.settings)

    def settle(self, *item_ids: str, num_answers: int = 120, num_read: int = 100) -> dict[str, int]:
        """Serve items and let people read most of their answers; champions by item."""
        champions = {}
        for seed, item_id in enumerate(item_ids, start=1):
            champions[item_id] = self.serve(item_id, seed=seed)
            answers = self.hand_in(item_id, num_answers, seed=seed)
            if num_read:
                self.read(answers[:num_read])
        return champions

    def teach(self, scorer_id: int, folds: Mapping[int, str]) -> None:
        """Let a scorer have learned from these submissions, as its lineage tells it."""
        with self.town.database.begin() as connection:
            connection.execute(
                text("""
                    WITH run AS (
                        INSERT INTO model.training_run (item_id, trigger, state)
                        SELECT item_id, 'manual', 'done' FROM model.scorer WHERE scorer_id = :scorer
                        RETURNING training_run_id
                    ), of_scorer AS (
                        UPDATE model.scorer SET training_run_id = (SELECT training_run_id FROM run)
                        WHERE scorer_id = :scorer
                    )
                    INSERT INTO model.training_run_submission (training_run_id, submission_id, fold)
                    SELECT training_run_id, given.* FROM run,
                           unnest(CAST(:ids AS bigint[]), CAST(:folds AS text[])) AS given
                """),
                {"scorer": scorer_id, "ids": list(folds), "folds": list(folds.values())},
            )

    def night(self, period: str, *, by: Policy | None = None, fusion: FusionConfig = BRIEF) -> Night | None:
        """One nightly run in this process."""
        night = MergeNight(self.town.database, self.settings, by or merging_policy(), fusion=fusion)
        return night.run(period)

    def rows(self, statement: str, **values: object) -> list[dict[str, Any]]:
        """Rows of any query."""
        with self.town.database.connect() as connection:
            return [dict(row._mapping) for row in connection.execute(text(statement), values)]

    def state_of(self, number: int) -> str:
        """A proposal's state."""
        (row,) = self.rows("SELECT state FROM model.merge_proposal WHERE merge_proposal_id = :n", n=number)
        return str(row["state"])
