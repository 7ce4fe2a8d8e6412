"""Schema `model`, merging: nightly GW runs, clouds, distances, and proposals with what became of them."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import Field, SQLModel

from db.models.schema import json_column, key_column, one_of, text_column, time_column

#: proposed -> shadow -> approved -> promoted -> rolled_back; or rejected, or superseded by a later night's.
STATES = ("proposed", "shadow", "approved", "promoted", "rolled_back", "rejected", "superseded")
#: States in which somebody still has to decide, or a promotion is to come.
PENDING = ("proposed", "shadow", "approved")


def _run_key(*, primary_key: bool = False) -> Column[int]:
    return Column(
        BigInteger,
        ForeignKey("model.gw_run.gw_run_id", ondelete="CASCADE"),
        nullable=False,
        primary_key=primary_key,
        autoincrement=False,
    )


def _cloud_key(**options: Any) -> Column[str]:
    return Column(Text, ForeignKey("model.gw_cloud.digest", ondelete="CASCADE"), nullable=False, **options)


def _item_key(**options: Any) -> Column[str]:
    return Column(Text, ForeignKey("model.item.item_id"), nullable=False, **options)


class GwRunRow(SQLModel, table=True):
    """One night's look at all items: settings and seeds, what it found, and who is at it."""

    __tablename__ = "gw_run"
    __table_args__ = (
        one_of("state", "running", "done", "failed"),
        one_of("trigger", "schedule", "manual"),
        {"schema": "model"},
    )

    gw_run_id: int | None = Field(default=None, sa_column=key_column("gw_run_id"))
    period: str = Field(sa_column=text_column(unique=True))
    trigger: str = Field(sa_column=text_column())
    state: str = Field(sa_column=text_column())
    #: Solver, sample size, seed, criterion, policy: enough to do it again.
    settings: dict[str, Any] = Field(sa_column=json_column())
    #: Counts, seconds of each step, pairs bounded away and solved, and the reasons for what was left out.
    report: dict[str, Any] = Field(sa_column=json_column())
    error: str | None = Field(default=None, sa_column=text_column(nullable=True))
    token: UUID | None = Field(default=None, sa_column=Column(Uuid))
    worker: str | None = Field(default=None, sa_column=text_column(nullable=True))
    lease_until: datetime | None = Field(default=None, sa_column=time_column(nullable=True))
    num_attempts: int = Field(sa_column=Column(SmallInteger, nullable=False, server_default=text("1")))
    started_at: datetime = Field(sa_column=time_column(default_now=True))
    finished_at: datetime | None = Field(default=None, sa_column=time_column(nullable=True))


class GwCloudRow(SQLModel, table=True):
    """One sample of one item's answers as its extractor saw them, known by its digest.

    Immutable, but for when it was last made and how many answers were asked for then.
    """

    __tablename__ = "gw_cloud"
    __table_args__ = (
        CheckConstraint("num_answers > 0 AND hidden_size > 0", name="sizes"),
        CheckConstraint("octet_length(features) = 2 * num_answers * hidden_size", name="features"),
        {"schema": "model"},
    )

    digest: str = Field(sa_column=text_column(primary_key=True))
    item_id: str = Field(sa_column=_item_key(index=True))
    scorer_id: int = Field(sa_column=Column(BigInteger, ForeignKey("model.scorer.scorer_id"), nullable=False))
    num_answers: int = Field(sa_column=Column(Integer, nullable=False))
    #: How many there were to be; an item may have had fewer.
    num_asked: int = Field(default=0, sa_column=Column(Integer, nullable=False, server_default=text("0")))
    hidden_size: int = Field(sa_column=Column(Integer, nullable=False))
    seed: int = Field(sa_column=Column(BigInteger, nullable=False))
    #: Root mean square of the distances inside the cloud, which its relational matrix is divided by.
    scale: float = Field(sa_column=Column(Double, nullable=False))
    #: Distance between two disjoint samples of the same item; null where there are too few answers.
    noise_floor: float | None = Field(default=None, sa_column=Column(Double))
    #: [num_answers, hidden_size] in half precision, little-endian, row by row.
    features: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    created_at: datetime = Field(sa_column=time_column(default_now=True))


class GwCloudSubmissionRow(SQLModel, table=True):
    """Which answers a cloud is made of; with the first of them that is erased goes the whole cloud."""

    __tablename__ = "gw_cloud_submission"
    __table_args__ = ({"schema": "model"},)

    digest: str = Field(sa_column=_cloud_key(primary_key=True))
    submission_id: int = Field(
        sa_column=Column(
            BigInteger,
            ForeignKey("ingest.submission.submission_id", ondelete="CASCADE"),
            primary_key=True,
            autoincrement=False,
            index=True,
        )
    )


class GwRunCloudRow(SQLModel, table=True):
    """Which cloud stood for an item in a run."""

    __tablename__ = "gw_run_cloud"
    __table_args__ = ({"schema": "model"},)

    gw_run_id: int = Field(sa_column=_run_key(primary_key=True))
    item_id: str = Field(sa_column=_item_key(primary_key=True))
    digest: str = Field(sa_column=_cloud_key(index=True))


class GwDistanceRow(SQLModel, table=True):
    """The distance of two clouds under one set of solver settings; computed once, used by every later run."""

    __tablename__ = "gw_distance"
    __table_args__ = (
        # A coarse value stems from fewer answers than the bound does.
        CheckConstraint("NOT is_solved OR lower_bound <= distance + 1e-9", name="bound"),
        {"schema": "model"},
    )

    first_digest: str = Field(sa_column=_cloud_key(primary_key=True))
    second_digest: str = Field(sa_column=_cloud_key(primary_key=True, index=True))
    #: Hash of the solver's settings.
    settings_key: str = Field(sa_column=text_column(primary_key=True))
    #: Half the root of GW^2 between matrices of unit root mean square: absolute, comparable between nights.
    distance: float = Field(sa_column=Column(Double, nullable=False))
    #: In the same units; no smaller distance exists.
    lower_bound: float = Field(sa_column=Column(Double, nullable=False))
    #: Answers a side that the distance was computed on; fewer than asked for is a coarse value.
    num_answers: int = Field(sa_column=Column(Integer, nullable=False))
    #: Whether the solver ran on all answers that were asked for.
    is_solved: bool = Field(sa_column=Column(Boolean, nullable=False))
    #: Whether being among the nearest, or not, rests on bounds alone.
    is_certified: bool = Field(sa_column=Column(Boolean, nullable=False))
    gw_run_id: int = Field(sa_column=_run_key())
    computed_at: datetime = Field(sa_column=time_column(default_now=True))


class MergeProposalRow(SQLModel, table=True):
    """A group of items to share one extractor (or to part again), with the evidence, and how far it is."""

    __tablename__ = "merge_proposal"
    __table_args__ = (
        one_of("kind", "merge", "join", "split"),
        one_of("state", *STATES),
        one_of("method", "joint", "least_squares", "mean", "own"),
        one_of("verdict", "pass", "fail", "inconclusive"),
        CheckConstraint("cardinality(items) >= 1", name="items"),
        UniqueConstraint("gw_run_id", "items"),
        Index(
            "ix_merge_proposal_pending",
            "state",
            postgresql_where=text(f"state IN ({', '.join(repr(state) for state in PENDING)})"),
        ),
        {"schema": "model"},
    )

    merge_proposal_id: int | None = Field(default=None, sa_column=key_column("merge_proposal_id"))
    gw_run_id: int = Field(sa_column=Column(BigInteger, ForeignKey("model.gw_run.gw_run_id"), nullable=False))
    #: merge: items with extractors of their own; join: to a group that stands; split: a group parts.
    kind: str = Field(sa_column=text_column())
    state: str = Field(sa_column=text_column(server_default=text("'proposed'")))
    #: The items in alphabetical order.
    items: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
    criterion: str = Field(sa_column=text_column())
    #: How the extractor was made: joint (trained, the items' own models as teachers), least_squares or
    #: mean; own for a split.
    method: str = Field(sa_column=text_column())
    #: The merged extractor; null for a split.
    extractor_id: int | None = Field(
        default=None, sa_column=Column(BigInteger, ForeignKey("model.extractor.extractor_id"))
    )
    #: Largest dissimilarity within the group, by the criterion.
    distance: float = Field(sa_column=Column(Double, nullable=False))
    #: Place of the group's farthest pair among all pairs of that night, from 1.
    distance_rank: int = Field(sa_column=Column(Integer, nullable=False))
    num_pairs: int = Field(sa_column=Column(Integer, nullable=False))
    #: Largest noise floor within the group.
    noise_floor: float | None = Field(default=None, sa_column=Column(Double))
    num_extractors_saved: int = Field(sa_column=Column(Integer, nullable=False))
    num_bytes_before: int = Field(sa_column=Column(BigInteger, nullable=False))
    num_bytes_after: int = Field(sa_column=Column(BigInteger, nullable=False))
    verdict: str = Field(sa_column=text_column())
    #: Mean change of each figure over the items with its interval, the checks, all dissimilarities.
    evidence: dict[str, Any] = Field(sa_column=json_column())
    #: Groups that were near, each with its items and distance.
    alternatives: list[dict[str, Any]] = Field(
        sa_column=Column(json_column().type, nullable=False, server_default=text("'[]'::jsonb"))
    )
    created_at: datetime = Field(sa_column=time_column(default_now=True))
    changed_at: datetime = Field(sa_column=time_column(default_now=True))


class MergeMemberRow(SQLModel, table=True):
    """One item of a proposal: its scorer, the one it would have, both on the same held-out answers."""

    __tablename__ = "merge_member"
    __table_args__ = (
        ForeignKeyConstraint(
            ["scorer_before", "item_id"],
            ["model.scorer.scorer_id", "model.scorer.item_id"],
            name="fk_merge_member_before_of_item",
        ),
        ForeignKeyConstraint(
            ["scorer_after", "item_id"],
            ["model.scorer.scorer_id", "model.scorer.item_id"],
            name="fk_merge_member_after_of_item",
        ),
        one_of("verdict", "pass", "fail", "inconclusive"),
        {"schema": "model"},
    )

    merge_proposal_id: int = Field(
        sa_column=Column(
            BigInteger,
            ForeignKey("model.merge_proposal.merge_proposal_id", ondelete="CASCADE"),
            primary_key=True,
            autoincrement=False,
        )
    )
    item_id: str = Field(sa_column=_item_key(primary_key=True))
    scorer_before: int = Field(sa_column=Column(BigInteger, nullable=False, index=True))
    scorer_after: int = Field(sa_column=Column(BigInteger, nullable=False, index=True))
    #: Held-out human-scored answers that both were measured on.
    num_answers: int = Field(sa_column=Column(Integer, nullable=False))
    qwk_before: float | None = Field(default=None, sa_column=Column(Double))
    qwk_after: float | None = Field(default=None, sa_column=Column(Double))
    #: Lower and upper end of the paired interval of the change of QWK.
    qwk_change_low: float | None = Field(default=None, sa_column=Column(Double))
    qwk_change_high: float | None = Field(default=None, sa_column=Column(Double))
    verdict: str = Field(sa_column=text_column())
    #: Every figure before, after and its change with interval; by trait where there are several.
    figures: dict[str, Any] = Field(sa_column=json_column())


class MergeEventRow(SQLModel, table=True):
    """Who moved a proposal from one state to the next, when and why; append-only."""

    __tablename__ = "merge_event"
    __table_args__ = (one_of("state", *STATES), {"schema": "model"})

    merge_event_id: int | None = Field(default=None, sa_column=key_column("merge_event_id"))
    merge_proposal_id: int = Field(
        sa_column=Column(
            BigInteger,
            ForeignKey("model.merge_proposal.merge_proposal_id", ondelete="CASCADE"),
            nullable=False,
            index=True,
        )
    )
    at: datetime = Field(sa_column=time_column(default_now=True))
    actor: str = Field(sa_column=text_column())
    #: The state that the proposal came to.
    state: str = Field(sa_column=text_column())
    reason: str = Field(sa_column=text_column())
    #: Epoch of the move of aliases, where there was one; the policy's checks, where it decided.
    detail: dict[str, Any] = Field(sa_column=json_column())


class MergePinRow(SQLModel, table=True):
    """A person's word that two items belong together or apart, or that one is never merged."""

    __tablename__ = "merge_pin"
    __table_args__ = (
        one_of("kind", "together", "apart", "alone"),
        CheckConstraint("CASE WHEN kind = 'alone' THEN first = second ELSE first < second END", name="pair"),
        {"schema": "model"},
    )

    first: str = Field(sa_column=_item_key(primary_key=True))
    #: The same item where it is pinned alone.
    second: str = Field(sa_column=_item_key(primary_key=True))
    kind: str = Field(sa_column=text_column())
    set_by: str = Field(sa_column=text_column())
    reason: str = Field(sa_column=text_column())
    set_at: datetime = Field(sa_column=time_column(default_now=True))
