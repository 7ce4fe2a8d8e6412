"""How far apart the items are tonight: GW distances, and another criterion where the policy says so.

Known distances of unchanged clouds are used again, and whatever is computed is kept for the nights to come.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import statistics
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
    from collections.abc import Callable, Collection, Mapping, Sequence

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
        num_pairs: pairs in all, where `distances` are only the nearest of them
        middle_gw: the GW distance of the middle pair of all, likewise
    """

    criterion: str
    distances: Mapping[Pair, float]
    gw: Mapping[Pair, float]
    noise_floors: Mapping[str, float | None]
    report: Mapping[str, Any] = field(default_factory=dict)
    num_pairs: int | None = None
    middle_gw: float | None = None

    @property
    def num_compared(self) -> int:
        """How many pairs a rank counts among."""
        return len(self.distances) if self.num_pairs is None else self.num_pairs

    @property
    def middle(self) -> float:
        """The distance of the middle pair of all."""
        return statistics.median(self.distances.values()) if self.middle_gw is None else self.middle_gw

    def within(self, items: Sequence[str]) -> dict[Pair, float]:
        """The distances between some items."""
        chosen = set(items)
        return {pair: value for pair, value in self.distances.items() if set(pair) <= chosen}

    def rank(self, distance: float) -> int:
        """The place of a distance among all, from 1."""
        return 1 + sum(other < distance for other in self.distances.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """How a night's items are compared.

    Attributes:
        settings: how GW distances are computed
        criterion: by which groups are chosen
        always: pairs whose distance is needed however far apart they are
        num_processes: one core each
        device: where the solver multiplies its matrices; None for NumPy
    """

    settings: GwSettings
    criterion: str = "gw"
    always: Collection[Pair] = ()
    num_processes: int = 1
    device: str | None = None


def settings_key(settings: GwSettings) -> str:
    """Hash of the solver's settings: distances under another key are other numbers."""
    return hashlib.sha256(json.dumps(asdict(settings), sort_keys=True).encode()).hexdigest()[:16]


def measure(
    database: Database,
    claimed: GwRunClaim,
    items: Mapping[str, StandingItem],
    *,
    how: Comparison,
    readers: Readers,
    check: Callable[[], None] = lambda: None,
) -> Neighbourhood:
    """Compare the clouds of a run; what is found is kept as it comes.

    Args:
        database: the ledger.
        claimed: the run.
        items: what serves now.
        how: by which distances, and at what cost.
        readers: for the criteria that look at more than clouds.
        check: raises when the run is no longer ours.

    Raises:
        DatabaseUnavailableError: Postgres does not answer.
    """
    started, key = time.monotonic(), settings_key(how.settings)
    with database_errors(), database.connect() as connection:
        records = [one for one in clouds.clouds_of_run(connection, claimed.gw_run_id) if one.item_id in items]
        known = clouds.known_distances(connection, claimed.gw_run_id, key)
        judged = clouds.judged_clouds(connection, claimed.gw_run_id, key)

    def keep(found: Sequence[PairDistance]) -> None:
        check()
        _keep(database, claimed, records, found, key)

    report = _search(
        records,
        items,
        known,
        how=how,
        judged=judged,
        on_found=keep,
    )
    # Solved pairs are kept by now; whether others are certain shows only in the end.
    keep([one for one in report.fresh if not one.solved])
    gw = {(one.first, one.second): one.distance for one in report.pairs}
    distances = gw
    if how.criterion != "gw":
        distances = {}
        for members in _by_block(records, items):
            distances |= dissimilarities(database, members, items, readers)[how.criterion]
    return Neighbourhood(
        how.criterion,
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
        num_pairs=report.num_pairs if how.criterion == "gw" else None,
        middle_gw=report.middle if how.criterion == "gw" and gw else None,
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
    targets = mixed_targets(None, taught, num_levels=member.item.num_levels, teacher_weight=1.0)
    gradient = adapter_gradient(inputs, targets, member.item.num_levels, modules=list(updates), reader=reader)
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
    pairs: Sequence[PairDistance],
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
        for one in pairs
    ]
    with database_errors(), database.begin() as connection:
        clouds.add_distances(connection, claimed, found, settings_key=key)


def _search(
    records: Sequence[CloudRecord],
    items: Mapping[str, StandingItem],
    known: Sequence[DistanceRecord],
    *,
    how: Comparison,
    judged: Collection[str],
    on_found: Callable[[Sequence[PairDistance]], None],
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
        # An earlier attempt may have compared an item that has left since.
        if {one.first_digest, one.second_digest} <= names.keys()
    }
    effort = SearchEffort(num_processes=how.num_processes, device=how.device)
    num_pairs = sum(len(block) * (len(block) - 1) // 2 for block in _by_block(records, items))
    is_large = effort.max_exact_pairs is not None and num_pairs > effort.max_exact_pairs
    return nearest_pairs(
        [replace(cloud_of(record), block=items[record.item_id].block) for record in records],
        num_pairs=_NUM_PAIRS_PER_ITEM * len(records) if is_large else None,
        threshold=None,
        settings=how.settings,
        known=reusable,
        judged=judged,
        always=how.always,
        on_found=on_found,
        effort=effort,
    )


def _by_block(records: Sequence[CloudRecord], items: Mapping[str, StandingItem]) -> list[list[CloudRecord]]:
    blocks: defaultdict[str, list[CloudRecord]] = defaultdict(list)
    for record in records:
        blocks[items[record.item_id].block].append(record)
    return [blocks[name] for name in sorted(blocks)]
