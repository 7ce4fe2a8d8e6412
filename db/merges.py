"""Merge proposals as rows: which items are to share an extractor, and with which evidence.

How a proposal goes on from there stands in `db.merge_steps`. Knows no extractor's weights and no policy.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import JSONB

from db.models.merge import PENDING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberRecord:
    """One item of a proposal."""

    item_id: str
    scorer_before: int
    scorer_after: int
    num_answers: int
    qwk_before: float | None
    qwk_after: float | None
    qwk_change_low: float | None
    qwk_change_high: float | None
    verdict: str
    figures: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposalRecord:
    """A proposal as the nightly run makes it."""

    gw_run_id: int
    kind: str
    items: tuple[str, ...]
    criterion: str
    method: str
    extractor_key: str | None
    distance: float
    distance_rank: int
    num_pairs: int
    noise_floor: float | None
    num_extractors_saved: int
    num_bytes_before: int
    num_bytes_after: int
    verdict: str
    evidence: dict[str, Any]
    alternatives: list[dict[str, Any]]
    members: tuple[MemberRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class ServedItem:
    """An item's champion, and its scorer with an extractor of its own: the same one unless it is merged."""

    item_id: str
    champion: int
    champion_key: str
    extractor_key: str
    extractor_kind: str
    num_bytes: int
    own: int
    own_key: str
    own_extractor_key: str
    own_num_bytes: int


@dataclass(frozen=True, slots=True)
class Word:
    """Who, why, and what belongs to it."""

    actor: str
    reason: str
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ShadowCount:
    """How one trait of one item would have been scored beside the champion."""

    item_id: str
    trait: str
    num_answers: int
    share_changed: float


def add(connection: Connection, proposal: ProposalRecord, *, word: Word) -> int:
    """Write a proposal down; the caller has registered its scorers in the same transaction.

    Returns:
        Its number.
    """
    values = asdict(proposal)
    values.pop("members")
    number = connection.execute(
        text("""
            INSERT INTO model.merge_proposal
                (gw_run_id, kind, items, criterion, method, extractor_id, distance, distance_rank, num_pairs,
                 noise_floor, num_extractors_saved, num_bytes_before, num_bytes_after, verdict, evidence,
                 alternatives)
            VALUES (:gw_run_id, :kind, :items, :criterion, :method,
                    (SELECT extractor_id FROM model.extractor WHERE extractor_key = :extractor_key),
                    :distance, :distance_rank, :num_pairs, :noise_floor, :num_extractors_saved,
                    :num_bytes_before, :num_bytes_after, :verdict, :evidence, :alternatives)
            RETURNING merge_proposal_id
        """).bindparams(bindparam("evidence", type_=JSONB), bindparam("alternatives", type_=JSONB)),
        {**values, "items": list(proposal.items)},
    ).scalar_one()
    connection.execute(
        text("""
            INSERT INTO model.merge_member
                (merge_proposal_id, item_id, scorer_before, scorer_after, num_answers, qwk_before, qwk_after,
                 qwk_change_low, qwk_change_high, verdict, figures)
            VALUES (:number, :item_id, :scorer_before, :scorer_after, :num_answers, :qwk_before, :qwk_after,
                    :qwk_change_low, :qwk_change_high, :verdict, :figures)
        """).bindparams(bindparam("figures", type_=JSONB)),
        [{"number": number, **asdict(member)} for member in proposal.members],
    )
    tell(connection, int(number), "proposed", word)
    return int(number)


def served_items(connection: Connection) -> list[ServedItem]:
    """Every served item: its champion, and the scorer with its own extractor that it has or last had."""
    rows = connection.execute(
        text("""
            SELECT a.item_id, c.scorer_id AS champion, c.scorer_key AS champion_key, x.extractor_key,
                   x.kind AS extractor_kind, x.num_bytes, o.scorer_id AS own, o.scorer_key AS own_key,
                   o.extractor_key AS own_extractor_key, o.num_bytes AS own_num_bytes
            FROM model.alias a
            JOIN model.item i ON i.item_id = a.item_id AND i.retired_at IS NULL
            JOIN model.scorer c USING (scorer_id) JOIN model.extractor x USING (extractor_id)
            JOIN LATERAL (
                SELECT s.scorer_id, s.scorer_key, e.extractor_key, e.num_bytes
                FROM model.scorer s JOIN model.extractor e USING (extractor_id)
                WHERE s.item_id = a.item_id AND e.kind = 'item'
                ORDER BY s.scorer_id = a.scorer_id DESC,
                         (SELECT max(m.merge_proposal_id) FROM model.merge_member m
                          JOIN model.merge_proposal p USING (merge_proposal_id)
                          WHERE m.scorer_before = s.scorer_id AND p.state = 'promoted') DESC NULLS LAST,
                         s.scorer_id DESC
                LIMIT 1
            ) o ON true
            WHERE a.alias = 'champion' ORDER BY a.item_id
        """)
    )
    return [ServedItem(**row._mapping) for row in rows]


def set_parents(connection: Connection, extractor_key: str, parents: Sequence[str]) -> None:
    """Note which extractors a merged one came from."""
    connection.execute(
        text("""
            UPDATE model.extractor SET parents = ARRAY(
                SELECT p.extractor_id FROM model.extractor p
                WHERE p.extractor_key = ANY(CAST(:parents AS text[])) ORDER BY p.extractor_id)
            WHERE extractor_key = :key
        """),
        {"key": extractor_key, "parents": list(parents)},
    )


def pending(connection: Connection, *, items: Sequence[str] = ()) -> list[tuple[int, str, tuple[str, ...]]]:
    """Proposals that wait, oldest first: number, state, items; only those with one of `items`, if given."""
    rows = connection.execute(
        text("""
            SELECT merge_proposal_id, state, items FROM model.merge_proposal
            WHERE state = ANY(CAST(:states AS text[]))
              AND (cardinality(CAST(:items AS text[])) = 0 OR items && CAST(:items AS text[]))
            ORDER BY merge_proposal_id
        """),
        {"states": list(PENDING), "items": list(items)},
    )
    return [(row.merge_proposal_id, row.state, tuple(row.items)) for row in rows]


def tried(connection: Connection) -> list[tuple[str, ...]]:
    """Groups that were rejected or rolled back while their items had the champions that they have now."""
    rows = connection.execute(
        text("""
            SELECT DISTINCT p.items FROM model.merge_proposal p
            WHERE p.state IN ('rejected', 'rolled_back') AND p.kind <> 'split' AND NOT EXISTS (
                SELECT FROM model.merge_member m
                LEFT JOIN model.alias a ON a.item_id = m.item_id AND a.alias = 'champion'
                WHERE m.merge_proposal_id = p.merge_proposal_id
                  AND a.scorer_id IS DISTINCT FROM m.scorer_before)
            ORDER BY p.items
        """)
    )
    return [tuple(row.items) for row in rows]


def proposed_in(connection: Connection, gw_run_id: int) -> set[tuple[str, ...]]:
    """The groups that a run has made proposals of."""
    rows = connection.execute(
        text("SELECT items FROM model.merge_proposal WHERE gw_run_id = :run"), {"run": gw_run_id}
    )
    return {tuple(row.items) for row in rows}


def shadow_counts(connection: Connection, merge_proposal_id: int) -> list[ShadowCount]:
    """What a proposal's scorers have said beside the champions, trait by trait; 0 where nothing yet."""
    rows = connection.execute(
        text("""
            SELECT m.item_id, t.trait, coalesce(c.num_answers, 0) AS num_answers,
                   coalesce(c.share_changed, 0) AS share_changed
            FROM model.merge_member m JOIN model.trait t USING (item_id)
            LEFT JOIN grader.merge_changes c ON c.merge_proposal_id = m.merge_proposal_id
                 AND c.item_id = m.item_id AND c.trait = t.trait
            WHERE m.merge_proposal_id = :number ORDER BY m.item_id, t.position
        """),
        {"number": merge_proposal_id},
    )
    return [ShadowCount(**row._mapping) for row in rows]


def tell(connection: Connection, number: int, state: str, word: Word) -> None:
    """Add an event: the proposal has come to this state."""
    connection.execute(
        text("""
            INSERT INTO model.merge_event (merge_proposal_id, actor, state, reason, detail)
            VALUES (:number, :actor, :state, :reason, :detail)
        """).bindparams(bindparam("detail", type_=JSONB)),
        {
            "number": number,
            "actor": word.actor,
            "state": state,
            "reason": word.reason,
            "detail": dict(word.detail),
        },
    )
