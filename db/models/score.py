"""Schema `score`: what machines and people decided. Machine scores are append-only."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    REAL,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    SmallInteger,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import Field, SQLModel

from db.models.schema import json_column, key_column, one_of, text_column, time_column

PURPOSES = ("appeal", "adjudication", "second", "read_behind", "first", "training")
#: Why somebody asks for a read; what the machine itself is unsure of needs no request.
REQUEST_REASONS = ("appeal", "disagreement", "read_behind")
CONDITION_CODES = ("blank", "too_short", "copied_prompt", "refused", "wrong_language", "not_text")


def _submission_key() -> Column[int]:
    return Column(
        BigInteger, ForeignKey("ingest.submission.submission_id", ondelete="CASCADE"), nullable=False
    )


class MachineScoreRow(SQLModel, table=True):
    """One level, or one condition code, by one scorer for one trait of one submission."""

    __tablename__ = "machine_score"
    __table_args__ = (
        UniqueConstraint("submission_id", "trait", "scorer_id"),
        one_of("role", "champion", "shadow"),
        one_of("condition_code", *CONDITION_CODES),
        CheckConstraint("(level IS NULL) <> (condition_code IS NULL)", name="level_or_code"),
        CheckConstraint("confidence BETWEEN 0 AND 1", name="confidence"),
        Index("ix_machine_score_scorer_id_scored_at", "scorer_id", "scored_at"),
        # What the graders' views ask of a million scores; each holds no more than its question needs.
        Index(
            "ix_machine_score_levels",
            *("scorer_id", "scored_at"),
            postgresql_include=["submission_id", "trait", "level", "role"],
            postgresql_where=text("level IS NOT NULL"),
        ),
        Index("ix_machine_score_codes", "submission_id", postgresql_where=text("condition_code IS NOT NULL")),
        Index(
            "ix_machine_score_review",
            "scorer_id",
            postgresql_where=text("needs_review AND role = 'champion'"),
        ),
        Index("ix_machine_score_shadow", "scorer_id", postgresql_where=text("role = 'shadow'")),
        {"schema": "score"},
    )

    machine_score_id: int | None = Field(default=None, sa_column=key_column("machine_score_id"))
    submission_id: int = Field(sa_column=_submission_key())
    trait: str = Field(sa_column=text_column())
    scorer_id: int = Field(sa_column=Column(BigInteger, ForeignKey("model.scorer.scorer_id"), nullable=False))
    role: str = Field(sa_column=text_column())
    level: int | None = Field(default=None, sa_column=Column(SmallInteger))
    probabilities: list[float] | None = Field(default=None, sa_column=Column(ARRAY(REAL)))
    confidence: float | None = Field(default=None, sa_column=Column(REAL))
    condition_code: str | None = Field(default=None, sa_column=text_column(nullable=True))
    needs_review: bool = Field(sa_column=Column(Boolean, nullable=False, server_default=text("false")))
    engine: str = Field(sa_column=text_column())
    scored_at: datetime = Field(sa_column=time_column(default_now=True))


class HumanScoreRow(SQLModel, table=True):
    """One person's reading of one trait of one submission."""

    __tablename__ = "human_score"
    __table_args__ = (
        UniqueConstraint("submission_id", "trait", "purpose", "rater"),
        one_of("purpose", *PURPOSES),
        one_of("condition_code", *CONDITION_CODES),
        CheckConstraint("(level IS NULL) <> (condition_code IS NULL)", name="level_or_code"),
        Index("ix_human_score_scored_at", "scored_at"),
        Index("ix_human_score_codes", "submission_id", postgresql_where=text("condition_code IS NOT NULL")),
        {"schema": "score"},
    )

    human_score_id: int | None = Field(default=None, sa_column=key_column("human_score_id"))
    submission_id: int = Field(sa_column=_submission_key())
    trait: str = Field(sa_column=text_column())
    purpose: str = Field(sa_column=text_column(server_default=text("'first'")))
    rater: str = Field(sa_column=text_column())
    level: int | None = Field(default=None, sa_column=Column(SmallInteger))
    condition_code: str | None = Field(default=None, sa_column=text_column(nullable=True))
    scored_at: datetime = Field(sa_column=time_column(default_now=True))


class ReadRequestRow(SQLModel, table=True):
    """Somebody, or a seeded draw, asks for a human read; a read given since then answers it."""

    __tablename__ = "read_request"
    __table_args__ = (one_of("reason", *REQUEST_REASONS), {"schema": "score"})

    submission_id: int = Field(
        sa_column=Column(
            BigInteger,
            ForeignKey("ingest.submission.submission_id", ondelete="CASCADE"),
            primary_key=True,
            autoincrement=False,
        )
    )
    trait: str = Field(sa_column=text_column(primary_key=True))
    reason: str = Field(sa_column=text_column(primary_key=True))
    requested_at: datetime = Field(sa_column=time_column(default_now=True))
    requested_by: str = Field(sa_column=text_column())


class AuditRow(SQLModel, table=True):
    """Who changed what, when and why; append-only."""

    __tablename__ = "audit"
    __table_args__ = ({"schema": "score"},)

    audit_id: int | None = Field(default=None, sa_column=key_column("audit_id"))
    at: datetime = Field(sa_column=time_column(default_now=True))
    actor: str = Field(sa_column=text_column())
    action: str = Field(sa_column=text_column())
    subject: str = Field(sa_column=text_column())
    detail: dict[str, Any] = Field(sa_column=json_column())
