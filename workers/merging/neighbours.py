"""How far apart the items are tonight: GW distances, and another criterion where the policy says so.

Known distances of unchanged clouds are used again, and whatever is computed is kept for the nights to come.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from collections import defaultdict
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from db import clouds
from db.clouds import DistanceRecord
from scoring.merging.criteria import CRITERIA
from scoring.merging.members import Member
from scoring.merging.profiles import adapter_gradient, probe_texts, profile
from scoring.merging.refit import mixed_targets
from scoring.merging.search import PairDistance, SearchEffort, nearest_pairs
from scoring.merging.updates import updates_of
from workers.merging.sampling import cloud_of
from workers.writer import database_errors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Engine as Database

    from db.clouds import CloudRecord
    from db.gw_runs import GwRunClaim
    from scoring.merging.clouds import FeatureCloud
    from scoring.merging.criteria import ItemProfile
    from scoring.merging.distances import GwSettings
    from scoring.merging.search import SearchReport
    from workers.merging.standing import Readers, StandingItem

#: Where there are too many pairs to solve them all, so many an item are looked for.
_NUM_PAIRS_PER_ITEM = 8
#: Answers that all items' extractors are asked about, for the criteria that compare extractors.
_NUM_PROBES = 200

#: Logged beside GW for every group that is tried, with the loss that followed.
OTHER_CRITERIA = ("cosine", "cka", "subspace", "gradient", "prompt")

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """Tonight's distances.

    Attributes:
        criterion: what `distances` are
        distances: dissimilarity by pair of items, by the criterion that chooses groups
        gw: GW distance by pair
        noise_floors: of each item, where it could be measured
        report: counts and seconds, for the run's row
    """

    criterion: str
    distances: Mapping[Pair, float]
    gw: Mapping[Pair, float]
    noise_floors: Mapping[str, float | None]
    report: Mapping[str, Any] = field(default_factory=dict)

    def within(self, items: Sequence[str]) -> dict[Pair, float]:
        """The distances between some items."""
        chosen = set(items)
        return {pair: value for pair, value in self.distances.items() if set(pair) <= chosen}

    def rank(self, distance: float) -> int:
        """The place of a distance among all, from 1."""
        return 1 + sum(other < distance for other in self.distances.values())


def settings_key(settings: GwSettings) -> str:
    """Hash of the solver's settings: distances under another key are other numbers."""
    return hashlib.sha256(json.dumps(asdict(settings), sort_keys=True).encode()).hexdigest()[:16]


def measure(
    database: Database,
    claimed: GwRunClaim,
    items: Mapping[str, StandingItem],
    *,
    settings: GwSettings,
    criterion: str,
    readers: Readers,
    num_processes: int = 1,
) -> Neighbourhood:
    """Compare the clouds of a run.

    Raises:
        DatabaseUnavailableError: Postgres does not answer.
    """
    started, key = time.monotonic(), settings_key(settings)
    with database_errors(), database.connect() as connection:
        records = [one for one in clouds.clouds_of_run(connection, claimed.gw_run_id) if one.item_id in items]
        known = clouds.known_distances(connection, claimed.gw_run_id, key)
    report = _search(records, items, known, settings, num_processes=num_processes)
    _keep(database, claimed, records, report, key)
    gw = {(one.first, one.second): one.distance for one in report.pairs}
    distances = gw
    if criterion != "gw":
        distances = {}
        for members in _by_block(records, items):
            distances |= dissimilarities(database, members, items, readers)[criterion]
    return Neighbourhood(
        criterion,
        distances,
        gw,
        {one.item_id: one.noise_floor for one in records},
        {
            "num_blocks": len(_by_block(records, items)),
            "num_pairs": report.num_pairs,
            "num_bounded_away": report.num_bounded_away,
            "num_sifted": report.num_sifted,
            "num_solved": report.num_solved,
            "num_reused": report.num_reused,
            "num_audited": report.num_audited,
            "certified_share": report.certified_share,
            "recall": report.recall,
            "distances_s": round(time.monotonic() - started, 2),
        },
    )


def dissimilarities(
    database: Database, records: Sequence[CloudRecord], items: Mapping[str, StandingItem], readers: Readers
) -> dict[str, dict[Pair, float]]:
    """Every pair of these clouds by every criterion that looks at items beside GW.

    They must be of one block. Extractors are compared on answers of all of these items; gradients are taken
    at the levels that each item's own model gives, so that nobody need have read an answer.
    """
    with database_errors(), database.connect() as connection:
        recent = {
            one.item_id: [
                answer.text
                for answer in clouds.recent_answers(connection, one.item_id, limit=_NUM_PROBES // 2)
            ]
            for one in records
        }
    probes = probe_texts(recent, num_texts=_NUM_PROBES, seed=0)
    profiles = {
        one.item_id: _profile(cloud_of(one), items[one.item_id], recent[one.item_id], probes, readers)
        for one in records
    }
    return {
        name: {
            pair: CRITERIA[name](profiles[pair[0]], profiles[pair[1]])
            for pair in itertools.combinations(sorted(profiles), 2)
        }
        for name in OTHER_CRITERIA
    }


def _profile(
    cloud: FeatureCloud, one: StandingItem, recent: Sequence[str], probes: Sequence[str], readers: Readers
) -> ItemProfile:
    reader, updates = readers.of(one), updates_of(one.extractor)
    member = Member(one.scorer, one.extractor, (), ())
    inputs = reader.read(recent)
    taught = member.head.logits(reader.features(inputs, updates))
    targets = mixed_targets(None, taught, num_levels=member.num_levels, teacher_weight=1.0)
    gradient = adapter_gradient(inputs, targets, member.num_levels, modules=list(updates), reader=reader)
    return profile(
        cloud,
        updates,
        reader=reader,
        probe=reader.read(probes),
        prompt=one.item.prompt,
        gradient=gradient,
    )


def _keep(
    database: Database,
    claimed: GwRunClaim,
    records: Sequence[CloudRecord],
    report: SearchReport,
    key: str,
) -> None:
    digests = {record.item_id: record.digest for record in records}
    found = [
        DistanceRecord(
            first_digest=digests[one.first],
            second_digest=digests[one.second],
            distance=one.distance,
            # Of coinciding clouds the bound comes out a speck above the distance.
            lower_bound=min(one.lower_bound, one.distance) if one.solved else one.lower_bound,
            num_answers=one.num_answers,
            is_solved=one.solved,
            is_certified=one.certified,
        )
        for one in report.examined
    ]
    with database_errors(), database.begin() as connection:
        clouds.add_distances(connection, claimed, found, settings_key=key)


def _search(
    records: Sequence[CloudRecord],
    items: Mapping[str, StandingItem],
    known: Sequence[DistanceRecord],
    settings: GwSettings,
    *,
    num_processes: int,
) -> SearchReport:
    names = {record.digest: record.item_id for record in records}
    reusable = {
        (one.first_digest, one.second_digest): PairDistance(
            first=names[one.first_digest],
            second=names[one.second_digest],
            distance=one.distance,
            lower_bound=one.lower_bound,
            num_answers=one.num_answers,
            solved=one.is_solved,
            certified=one.is_certified,
        )
        for one in known
    }
    effort = SearchEffort(num_processes=num_processes)
    num_pairs = sum(len(block) * (len(block) - 1) // 2 for block in _by_block(records, items))
    is_large = effort.max_exact_pairs is not None and num_pairs > effort.max_exact_pairs
    return nearest_pairs(
        [replace(cloud_of(record), block=items[record.item_id].block) for record in records],
        num_pairs=_NUM_PAIRS_PER_ITEM * len(records) if is_large else None,
        threshold=None,
        settings=settings,
        known=reusable,
        effort=effort,
    )


def _by_block(records: Sequence[CloudRecord], items: Mapping[str, StandingItem]) -> list[list[CloudRecord]]:
    blocks: defaultdict[str, list[CloudRecord]] = defaultdict(list)
    for record in records:
        blocks[items[record.item_id].block].append(record)
    return [blocks[name] for name in sorted(blocks)]
