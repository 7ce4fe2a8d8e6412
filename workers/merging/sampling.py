"""Clouds: which recent answers stand for an item tonight, and their features by the item's own extractor.

A cloud is kept while the item's extractor is the same and most of its sample is still recent; only the others
are read and computed again.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from db import clouds
from db.clouds import CloudRecord
from scoring.errors import InvalidInputError
from scoring.merging.clouds import FeatureCloud, features_digest, sample_rows
from scoring.merging.distances import MIN_FOR_FLOOR, noise_floor
from scoring.merging.relations import relate
from scoring.text import condition_code
from workers.writer import database_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray
    from sqlalchemy import Engine as Database

    from db.clouds import RecentAnswer, StandingCloud
    from db.gw_runs import GwRunClaim
    from scoring.evaluation.policy import MergingPolicy
    from scoring.merging.distances import GwSettings
    from scoring.types import ItemSpec
    from workers.merging.standing import Readers, StandingItem

#: How far back a sample may reach, in distinct answers.
_NUM_RECENT = 2000
#: How often an item is sampled again in a night because answers of its sample were erased meanwhile.
_MAX_DRAWS = 3


@dataclass(frozen=True, slots=True)
class Sampling:
    """What became of the clouds: how many were made and kept, and which items have none, with the reason."""

    num_made: int = 0
    num_kept: int = 0
    left_out: dict[str, str] = field(default_factory=dict)


class Sampler:
    """Brings every item's cloud up to date, one transaction an item, so that a killed run goes on."""

    def __init__(
        self,
        database: Database,
        claimed: GwRunClaim,
        readers: Readers,
        *,
        policy: MergingPolicy,
        settings: GwSettings,
        progress: Callable[[str, int, int], None] = lambda _what, _done, _total: None,
    ) -> None:
        self._database = database
        self._claimed = claimed
        self._readers = readers
        self._policy = policy
        self._settings = settings
        self._progress = progress

    def refresh(self, items: Mapping[str, StandingItem], check: Callable[[], None]) -> Sampling:
        """Make or keep a cloud for each item.

        Args:
            items: whose.
            check: called before each item; raises where the run is no longer ours.

        Raises:
            DatabaseUnavailableError: Postgres does not answer.
        """
        with database_errors(), self._database.connect() as connection:
            standing = clouds.standing_clouds(connection)
            taken = clouds.items_of_run(connection, self._claimed.gw_run_id)
        num_made, num_kept, left_out = 0, len(taken & items.keys()), {}
        for number, name in enumerate(sorted(items.keys() - taken)):
            check()
            self._progress("clouds", number, len(items))
            if (cloud := standing.get(name)) and self._still_stands(cloud, items[name]):
                with database_errors(), self._database.begin() as connection:
                    clouds.use_cloud(connection, self._claimed, name, cloud.digest)
                num_kept += 1
            elif reason := self._make(items[name]):
                left_out[name] = reason
            else:
                num_made += 1
        return Sampling(num_made, num_kept, left_out)

    def _still_stands(self, cloud: StandingCloud, one: StandingItem) -> bool:
        is_same = cloud.extractor_key == one.served.own_extractor_key and cloud.seed == self._settings.seed
        # Made when fewer were asked for, it may lack answers that have been there all the time.
        is_same = is_same and cloud.num_asked >= self._settings.num_answers
        # At one of two successors, a sample of two is renewed; at none, nothing ever is.
        return is_same and cloud.num_since < max(1.0, self._policy.refresh_share * cloud.num_answers)

    def _make(self, one: StandingItem) -> str | None:
        """Sample, compute and keep an item's cloud; the reason where that cannot be."""
        for _ in range(_MAX_DRAWS):
            with database_errors(), self._database.connect() as connection:
                recent = clouds.recent_answers(connection, one.item_id, limit=_NUM_RECENT)
            answers = [answer for answer in recent if not _is_coded(answer.text, one.item)]
            if len(answers) < self._policy.min_answers:
                return f"{len(answers)} distinct answers, {self._policy.min_answers} are needed"
            try:
                cloud = self._cloud(one, answers)
            except InvalidInputError as error:  # an extractor whose features are no numbers
                return str(error)
            with database_errors(), self._database.begin() as connection:
                if clouds.add_cloud(connection, self._claimed, cloud):
                    return None
        return "its answers were erased while they were sampled"

    def _cloud(self, one: StandingItem, answers: Sequence[RecentAnswer]) -> CloudRecord:
        settings = self._settings
        # Twice as many as the cloud holds, where there are: two disjoint samples of its size give the floor.
        rows = sample_rows(
            len(answers), max_rows=2 * settings.num_answers, seed=settings.seed, item_id=one.item_id
        )
        chosen = [answers[row] for row in rows]
        reader = self._readers.of(one)
        wide = _halved(self._readers.features(one, reader.read([answer.text for answer in chosen])))
        features = wide[: settings.num_answers]
        sample = FeatureCloud.of(one.item_id, wide.astype(np.float32))
        return CloudRecord(
            digest=cloud_digest(one.item_id, features.astype(np.float32)),
            item_id=one.item_id,
            scorer_id=one.served.own,
            num_answers=len(features),
            num_asked=settings.num_answers,
            hidden_size=features.shape[1],
            seed=settings.seed,
            scale=relate(features.astype(np.float64)).scale,
            noise_floor=noise_floor(sample, settings) if len(sample) >= MIN_FOR_FLOOR else None,
            features=features.tobytes(),
            submission_ids=tuple(answer.submission_id for answer in chosen[: len(features)]),
        )


def cloud_of(record: CloudRecord) -> FeatureCloud:
    """A stored cloud as the model core takes it."""
    table = np.frombuffer(record.features, dtype="<f2").reshape(record.num_answers, record.hidden_size)
    return FeatureCloud(record.item_id, table.astype(np.float32), record.digest)


def cloud_digest(item_id: str, features: NDArray[np.float32]) -> str:
    """Sha256 (hex) over the item and the features: two items with the same answers have two clouds."""
    return hashlib.sha256(f"{item_id}\0{features_digest(features)}".encode()).hexdigest()


def _halved(features: NDArray[np.float32]) -> NDArray[np.float16]:
    # Distances are always computed on what is kept, so that a kept cloud gives the same ones as a new one.
    return features.astype("<f2")


def _is_coded(text: str, item: ItemSpec) -> bool:
    return condition_code(text, prompt=item.prompt, language=item.language) is not None
