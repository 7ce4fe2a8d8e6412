"""Schema `model`: items, and what scores them. Extractors and scorers are immutable; aliases move."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    REAL,
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    SmallInteger,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import Field, SQLModel

from db.models.schema import json_column, key_column, one_of, text_column, time_column


class ItemRow(SQLModel, table=True):
    """One question with its rubric."""

    __tablename__ = "item"
    __table_args__ = (
        CheckConstraint("length(item_id) BETWEEN 1 AND 200", name="item_id_length"),
        {"schema": "model"},
    )

    item_id: str = Field(sa_column=text_column(primary_key=True))
    prompt: str = Field(sa_column=text_column())
    language: str = Field(sa_column=text_column())
    rubric: str = Field(sa_column=text_column())
    created_at: datetime = Field(sa_column=time_column(default_now=True))
    retired_at: datetime | None = Field(default=None, sa_column=time_column(nullable=True))


class TraitRow(SQLModel, table=True):
    """One thing scored in an item, with levels 0..num_levels-1; `position` orders the head's logits."""

    __tablename__ = "trait"
    __table_args__ = (
        UniqueConstraint("item_id", "position"),
        CheckConstraint("num_levels BETWEEN 2 AND 100", name="num_levels"),
        CheckConstraint("cardinality(labels) IN (0, num_levels)", name="labels"),
        {"schema": "model"},
    )

    item_id: str = Field(
        sa_column=Column(Text, ForeignKey("model.item.item_id", ondelete="CASCADE"), primary_key=True)
    )
    trait: str = Field(sa_column=text_column(primary_key=True))
    position: int = Field(sa_column=Column(SmallInteger, nullable=False))
    num_levels: int = Field(sa_column=Column(SmallInteger, nullable=False))
    labels: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False, server_default=text("'{}'")))


class TrainingRunRow(SQLModel, table=True):
    """One training of one item: why, with what, and what came of it."""

    __tablename__ = "training_run"
    __table_args__ = (
        one_of("trigger", "manual", "schedule", "new_scores", "drift", "agreement", "merge"),
        one_of("state", "running", "done", "failed"),
        one_of("verdict", "pass", "fail", "inconclusive"),
        one_of("decision", "champion", "shadow", "registered"),
        UniqueConstraint("item_id", "period"),
        # A retraining that is under way, or was when its process died, is taken over and never doubled.
        Index(
            "uq_training_run_retraining",
            "item_id",
            unique=True,
            postgresql_where=text("state = 'running' AND period IS NOT NULL"),
        ),
        {"schema": "model"},
    )

    training_run_id: int | None = Field(default=None, sa_column=key_column("training_run_id"))
    item_id: str = Field(sa_column=Column(Text, ForeignKey("model.item.item_id"), nullable=False, index=True))
    trigger: str = Field(sa_column=text_column())
    state: str = Field(sa_column=text_column())
    config: dict[str, Any] = Field(sa_column=json_column())
    data: dict[str, Any] = Field(sa_column=json_column())
    metrics: dict[str, Any] = Field(sa_column=json_column())
    error: str | None = Field(default=None, sa_column=text_column(nullable=True))
    started_at: datetime = Field(sa_column=time_column(default_now=True))
    finished_at: datetime | None = Field(default=None, sa_column=time_column(nullable=True))
    #: The period that a retraining belongs to; null for trainings by hand.
    period: str | None = Field(default=None, sa_column=text_column(nullable=True))
    verdict: str | None = Field(default=None, sa_column=text_column(nullable=True))
    #: What became of the challenger.
    decision: str | None = Field(default=None, sa_column=text_column(nullable=True))
    #: The checks behind the verdict, each with its figure.
    evidence: dict[str, Any] = Field(sa_column=json_column())
    #: Whose it is while it runs: only the process that knows the token may conclude it.
    token: UUID | None = Field(default=None, sa_column=Column(Uuid))
    worker: str | None = Field(default=None, sa_column=text_column(nullable=True))
    lease_until: datetime | None = Field(default=None, sa_column=time_column(nullable=True))
    num_attempts: int = Field(sa_column=Column(SmallInteger, nullable=False, server_default=text("1")))


class TrainingRunSubmissionRow(SQLModel, table=True):
    """One submission that a training run learned from or was measured on, and its fold."""

    __tablename__ = "training_run_submission"
    __table_args__ = (one_of("fold", "train", "validation", "test"), {"schema": "model"})

    training_run_id: int = Field(
        sa_column=Column(
            BigInteger,
            ForeignKey("model.training_run.training_run_id", ondelete="CASCADE"),
            primary_key=True,
            autoincrement=False,
        )
    )
    submission_id: int = Field(
        sa_column=Column(
            BigInteger,
            ForeignKey("ingest.submission.submission_id", ondelete="CASCADE"),
            primary_key=True,
            autoincrement=False,
            index=True,
        )
    )
    fold: str = Field(sa_column=text_column())


class ExtractorRow(SQLModel, table=True):
    """What turns text into features: an adapter of one item, or one merged for a group."""

    __tablename__ = "extractor"
    __table_args__ = (
        one_of("kind", "item", "merged"),
        CheckConstraint("extractor_key ~ '^[0-9a-f]{64}$'", name="extractor_key"),
        {"schema": "model"},
    )

    extractor_id: int | None = Field(default=None, sa_column=key_column("extractor_id"))
    extractor_key: str = Field(sa_column=text_column(unique=True))
    kind: str = Field(sa_column=text_column())
    backbone: str = Field(sa_column=text_column())
    backbone_revision: str = Field(sa_column=text_column())
    rank: int = Field(sa_column=Column(Integer, nullable=False))
    alpha: float = Field(sa_column=Column(REAL, nullable=False))
    target_modules: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
    parents: list[int] = Field(
        sa_column=Column(ARRAY(BigInteger), nullable=False, server_default=text("'{}'"))
    )
    num_bytes: int = Field(sa_column=Column(BigInteger, nullable=False))
    created_at: datetime = Field(sa_column=time_column(default_now=True))


class ScorerRow(SQLModel, table=True):
    """An item's extractor, head and calibration: immutable, known by its content."""

    __tablename__ = "scorer"
    __table_args__ = (
        UniqueConstraint("scorer_id", "item_id"),
        CheckConstraint("scorer_key ~ '^[0-9a-f]{64}$'", name="scorer_key"),
        {"schema": "model"},
    )

    scorer_id: int | None = Field(default=None, sa_column=key_column("scorer_id"))
    scorer_key: str = Field(sa_column=text_column(unique=True))
    item_id: str = Field(sa_column=Column(Text, ForeignKey("model.item.item_id"), nullable=False, index=True))
    extractor_id: int = Field(
        sa_column=Column(BigInteger, ForeignKey("model.extractor.extractor_id"), nullable=False, index=True)
    )
    training_run_id: int | None = Field(
        default=None, sa_column=Column(BigInteger, ForeignKey("model.training_run.training_run_id"))
    )
    metrics: dict[str, Any] = Field(sa_column=json_column())
    created_at: datetime = Field(sa_column=time_column(default_now=True))


class AliasRow(SQLModel, table=True):
    """A movable pointer from an item to one of its own scorers."""

    __tablename__ = "alias"
    __table_args__ = (
        one_of("alias", "champion", "shadow", "previous"),
        ForeignKeyConstraint(
            ["scorer_id", "item_id"],
            ["model.scorer.scorer_id", "model.scorer.item_id"],
            name="fk_alias_scorer_of_item",
        ),
        {"schema": "model"},
    )

    item_id: str = Field(sa_column=text_column(primary_key=True))
    alias: str = Field(sa_column=text_column(primary_key=True))
    scorer_id: int = Field(sa_column=Column(BigInteger, nullable=False, index=True))
    set_by: str = Field(sa_column=text_column())
    set_at: datetime = Field(sa_column=time_column(default_now=True))


class EpochRow(SQLModel, table=True):
    """One row: a counter that every change of an alias moves, so that workers see a change at a glance."""

    __tablename__ = "epoch"
    __table_args__ = (CheckConstraint("only_row", name="only_row"), {"schema": "model"})

    only_row: bool = Field(default=True, primary_key=True)
    epoch: int = Field(sa_column=Column(BigInteger, nullable=False, server_default=text("0")))
