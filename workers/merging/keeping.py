"""What a night does about earlier proposals: stale ones end, approved ones come, a policy may approve.

All by the rules that a person wrote; every step is an event with the policy as its actor.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from db import merge_steps, merges
from db.merge_steps import MergeError
from db.merges import Word
from scoring.errors import PermanentError
from workers.merging import decisions
from workers.merging.proposing import POLICY
from workers.telemetry import get_logger
from workers.writer import database_errors

if TYPE_CHECKING:
    from sqlalchemy import Engine as Database

    from db.merges import ShadowCount
    from scoring.evaluation.policy import MergingPolicy
    from workers.settings import Settings

log = get_logger("merging")


@dataclass(slots=True)
class Kept:
    """Proposals that a night brought on, by number, and why others stay where they are."""

    superseded: list[int] = field(default_factory=list)
    promoted: list[int] = field(default_factory=list)
    waiting: dict[int, str] = field(default_factory=dict)


def keep_proposals(database: Database, settings: Settings, policy: MergingPolicy) -> Kept:
    """Bring every pending proposal as far as it may go without a person.

    Raises:
        DatabaseUnavailableError: Postgres does not answer.
    """
    kept = Kept()
    with database_errors(), database.connect() as connection:
        waiting = merges.pending(connection)
    for number, state, _ in waiting:
        if _superseded(database, number):
            kept.superseded.append(number)
        elif state == "approved":
            _promote_approved(database, number, kept)
        elif state == "shadow" and policy.approves_itself:
            _approve(database, settings, number, policy, kept)
    return kept


def objection(counts: list[ShadowCount], verdict: str, policy: MergingPolicy) -> str | None:
    """Why a policy does not approve a proposal by itself; None where it does."""
    if verdict != "pass":
        return f"its evidence says {verdict}"
    if missing := decisions.too_few(counts, policy):
        return missing
    for one in counts:
        if one.share_changed > policy.max_share_changed:
            return (
                f"item {one.item_id}, trait {one.trait}: {one.share_changed:.3f} of levels differ,"
                f" at most {policy.max_share_changed:.3f} are allowed"
            )
    return None


def _superseded(database: Database, number: int) -> bool:
    """End a proposal whose items have other champions or shadows than it was measured against."""
    with database_errors(), database.begin() as connection:
        held = merge_steps.hold(connection, number)
        try:
            merge_steps.check_measured(held)
            merge_steps.check_shadowed(held)
        except MergeError as error:
            merge_steps.end(connection, held, "superseded", word=Word(POLICY, str(error)))
            return True
    return False


def _promote_approved(database: Database, number: int, kept: Kept) -> None:
    with database_errors(), database.begin() as connection:
        held = merge_steps.hold(connection, number)
        merge_steps.promote(connection, held, word=Word(POLICY, "approved before; promoted at night"))
    kept.promoted.append(number)
    log.info("merge_promoted", proposal=number)


def _approve(database: Database, settings: Settings, number: int, policy: MergingPolicy, kept: Kept) -> None:
    with database_errors(), database.connect() as connection:
        counts = merges.shadow_counts(connection, number)
        verdict = merge_steps.hold(connection, number).verdict
    reason = objection(counts, verdict, policy)
    if reason is None:
        try:
            word = Word(POLICY, "its evidence and its shadow period pass the policy")
            decisions.approve(database, settings, number, policy=policy, word=word)
        except PermanentError as error:
            reason = str(error)
    if reason is None:
        kept.promoted.append(number)
    else:
        kept.waiting[number] = reason
