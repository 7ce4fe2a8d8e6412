"""Which items should be trained again, and why: new reads, levels that drift, agreement that falls."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from db import evaluations, readable
from scoring.evaluation.drift import population_stability_index
from scoring.metrics import quadratic_weighted_kappa
from workers.writer import database_errors

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy import Engine as Database

    from db.readable import Champion
    from scoring.evaluation.policy import Policy


@dataclass(frozen=True, slots=True)
class Standing:
    """How an item stands; `trigger` is None where it is not due, and `reason` says so or why."""

    item_id: str
    trigger: str | None
    reason: str
    num_readable: int
    num_new: int
    #: Largest population stability index of the traits; None below the policy's number of answers.
    psi: float | None
    #: Deepest fall of a trait's recent QWK below that of the champion's test fold; None likewise.
    qwk_drop: float | None


def standings(database: Database, policy: Policy, *, now: datetime | None = None) -> list[Standing]:
    """Every served item, due or not.

    Raises:
        DatabaseUnavailableError: Postgres does not answer.
    """
    since = (now or datetime.now(UTC)) - timedelta(days=policy.retraining.window_days)
    with database_errors(), database.connect() as connection:
        return [_standing(connection, one, policy, since) for one in readable.champions(connection)]


def _standing(connection: Connection, champion: Champion, policy: Policy, since: datetime) -> Standing:
    psi = _psi(connection, champion, since, min_answers=policy.evidence.min_answers)
    drop = _qwk_drop(connection, champion, since, policy)
    trigger, reason = _verdict(champion.num_new, psi, drop, policy)
    return Standing(champion.item_id, trigger, reason, champion.num_readable, champion.num_new, psi, drop)


def _verdict(num_new: int, psi: float | None, drop: float | None, policy: Policy) -> tuple[str | None, str]:
    rules = policy.retraining
    if num_new >= rules.min_new_reads:
        return "new_scores", f"{num_new} new reads"
    worse = []
    if psi is not None and psi > rules.max_psi:
        worse.append(("drift", f"shares of levels have moved, PSI {psi:.2f}"))
    if drop is not None and drop > rules.max_qwk_drop:
        worse.append(("agreement", f"recent QWK is {drop:.3f} below that of the test fold"))
    if not worse:
        return None, f"{num_new} new reads of {rules.min_new_reads}"
    trigger, reason = worse[0]
    if num_new >= rules.min_new_reads_if_worse:
        return trigger, f"{reason}; {num_new} new reads"
    # The same answers would give the same scorer: people have to read first.
    return None, f"{reason}; but {num_new} new reads of {rules.min_new_reads_if_worse}"


def _psi(connection: Connection, champion: Champion, since: datetime, *, min_answers: int) -> float | None:
    counts: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
    for one in evaluations.level_counts(connection, champion.scorer_id, since=since):
        counts[one.trait].append((one.num_recent, one.num_before))
    indices = []
    for levels in counts.values():
        recent, before = zip(*levels, strict=True)
        if min(sum(recent), sum(before)) >= min_answers:
            indices.append(population_stability_index(recent, before))
    return max(indices, default=None)


def _qwk_drop(connection: Connection, champion: Champion, since: datetime, policy: Policy) -> float | None:
    trained = {one["trait"]: one["qwk"] for one in champion.metrics.get("test", ())}
    levels: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
    for read in evaluations.read_levels(connection, champion.scorer_id, since=since):
        levels[read.trait].append((read.machine, read.human))
    drops = []
    for trait, pairs in levels.items():
        if len(pairs) < policy.evidence.min_answers or trained.get(trait) is None:
            continue
        machine, human = zip(*pairs, strict=True)
        drops.append(trained[trait] - quadratic_weighted_kappa(machine, human))
    return max((drop for drop in drops if drop == drop), default=None)  # noqa: PLR0124 (nan is no drop)
