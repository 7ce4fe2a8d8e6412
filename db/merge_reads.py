"""Proposals as people read them: the graders' views, and every event."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection


@dataclass(frozen=True, slots=True)
class ProposalDetail:
    """One proposal with all that is written about it; each part as its view or table names it."""

    proposal: dict[str, Any]
    items: list[dict[str, Any]]
    changes: list[dict[str, Any]]
    events: list[dict[str, Any]]
    evidence: dict[str, Any]
    alternatives: list[dict[str, Any]]


def listed(connection: Connection, *, states: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Proposals in these states (all by default), the newest first."""
    rows = connection.execute(
        text("""
            SELECT * FROM grader.merges
            WHERE cardinality(CAST(:states AS text[])) = 0 OR state = ANY(CAST(:states AS text[]))
            ORDER BY merge_proposal_id DESC
        """),
        {"states": list(states)},
    )
    return [dict(row._mapping) for row in rows]


def detail(connection: Connection, merge_proposal_id: int) -> ProposalDetail | None:
    """One proposal; None if there is none with this number."""
    number = {"number": merge_proposal_id}

    def rows(statement: str) -> list[dict[str, Any]]:
        return [dict(row._mapping) for row in connection.execute(text(statement), number)]

    found = rows("SELECT * FROM grader.merges WHERE merge_proposal_id = :number")
    if not found:
        return None
    (told,) = rows(
        "SELECT evidence, alternatives FROM model.merge_proposal WHERE merge_proposal_id = :number"
    )
    return ProposalDetail(
        proposal=found[0],
        items=rows("SELECT * FROM grader.merge_items WHERE merge_proposal_id = :number ORDER BY item_id"),
        changes=rows(
            "SELECT * FROM grader.merge_changes WHERE merge_proposal_id = :number ORDER BY item_id, trait"
        ),
        events=rows("""
            SELECT at, actor, state, reason, detail FROM model.merge_event
            WHERE merge_proposal_id = :number ORDER BY merge_event_id
        """),
        evidence=told["evidence"],
        alternatives=told["alternatives"],
    )
