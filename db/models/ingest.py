"""Schema `ingest`: what was accepted, what was refused, and how far each submission is."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
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

from db.models.schema import key_column, one_of, text_column, time_column

_ZERO = text("0")


class BatchRow(SQLModel, table=True):
    """One file as it came in; the same file again is the same batch."""

    __tablename__ = "batch"
    __table_args__ = (
        UniqueConstraint("source", "file_sha256"),
        CheckConstraint(
            "num_rows = num_accepted + num_repeated + num_conflicts + num_rejected", name="counts_add_up"
        ),
        # The newest batches are counted first, and the older ones not at all.
        Index("ix_batch_received_at", "received_at"),
        {"schema": "ingest"},
    )

    batch_id: int | None = Field(default=None, sa_column=key_column("batch_id"))
    source: str = Field(sa_column=text_column())
    file_name: str = Field(sa_column=text_column())
    file_format: str = Field(sa_column=text_column())
    file_sha256: str = Field(sa_column=text_column())
    file_num_bytes: int = Field(sa_column=Column(BigInteger, nullable=False))
    num_rows: int = Field(sa_column=Column(Integer, nullable=False, server_default=_ZERO))
    num_accepted: int = Field(sa_column=Column(Integer, nullable=False, server_default=_ZERO))
    num_repeated: int = Field(sa_column=Column(Integer, nullable=False, server_default=_ZERO))
    num_conflicts: int = Field(sa_column=Column(Integer, nullable=False, server_default=_ZERO))
    num_rejected: int = Field(sa_column=Column(Integer, nullable=False, server_default=_ZERO))
    received_at: datetime = Field(sa_column=time_column(default_now=True))


class RejectRow(SQLModel, table=True):
    """One answer of a file that was not accepted, and why; never its text. Wide files have several a line."""

    __tablename__ = "reject"
    __table_args__ = ({"schema": "ingest"},)

    batch_id: int = Field(
        sa_column=Column(
            BigInteger, ForeignKey("ingest.batch.batch_id", ondelete="CASCADE"), primary_key=True
        )
    )
    line: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    part: int = Field(
        sa_column=Column(SmallInteger, primary_key=True, autoincrement=False, server_default=text("1"))
    )
    reason: str = Field(sa_column=text_column())
    detail: str = Field(sa_column=text_column())


class SubmissionRow(SQLModel, table=True):
    """One answer to one item, immutable; (source, response_id, attempt) is its idempotency key."""

    __tablename__ = "submission"
    __table_args__ = (
        UniqueConstraint("source", "response_id", "attempt"),
        CheckConstraint("attempt >= 1", name="attempt"),
        CheckConstraint("octet_length(text_key) = 32", name="text_key"),
        CheckConstraint("octet_length(content_sha256) = 32", name="content_sha256"),
        # Finds a batch's answers, and its first and last number at once.
        Index("ix_submission_of_batch", "batch_id", "submission_id"),
        {"schema": "ingest"},
    )

    submission_id: int | None = Field(default=None, sa_column=key_column("submission_id"))
    batch_id: int | None = Field(
        default=None, sa_column=Column(BigInteger, ForeignKey("ingest.batch.batch_id"))
    )
    source: str = Field(sa_column=text_column())
    response_id: str = Field(sa_column=text_column())
    attempt: int = Field(sa_column=Column(Integer, nullable=False, server_default=text("1")))
    item_id: str = Field(sa_column=Column(Text, ForeignKey("model.item.item_id"), nullable=False, index=True))
    student_key: UUID | None = Field(
        default=None,
        sa_column=Column(Uuid, ForeignKey("pii.student.student_key", ondelete="CASCADE"), index=True),
    )
    text: str = Field(sa_column=text_column())
    #: sha256 of the normalised text: equal answers share it.
    text_key: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    #: sha256 of item and raw text: tells a repeated row from a conflicting one.
    content_sha256: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    submitted_at: datetime | None = Field(default=None, sa_column=time_column(nullable=True))
    received_at: datetime = Field(sa_column=time_column(default_now=True))


class WorkRow(SQLModel, table=True):
    """How far one submission is: narrow and mutable, apart from the immutable answer."""

    __tablename__ = "work"
    __table_args__ = (
        one_of("state", "ready", "leased", "done", "quarantined"),
        CheckConstraint("(state = 'leased') = (token IS NOT NULL)", name="token_while_leased"),
        Index("ix_work_ready", "ready_at", postgresql_where=text("state = 'ready'")),
        Index("ix_work_unfinished", "state", postgresql_where=text("state IN ('leased', 'quarantined')")),
        {"schema": "ingest"},
    )

    submission_id: int = Field(
        sa_column=Column(
            BigInteger,
            ForeignKey("ingest.submission.submission_id", ondelete="CASCADE"),
            primary_key=True,
            autoincrement=False,
        )
    )
    item_id: str = Field(sa_column=text_column())
    state: str = Field(sa_column=text_column(server_default=text("'ready'")))
    #: Counted at claim, so that an attempt that kills its process is counted too.
    num_attempts: int = Field(sa_column=Column(SmallInteger, nullable=False, server_default=_ZERO))
    #: Attempts made alone in a process; only these lead to quarantine.
    num_solo_attempts: int = Field(sa_column=Column(SmallInteger, nullable=False, server_default=_ZERO))
    token: UUID | None = Field(default=None, sa_column=Column(Uuid))
    ready_at: datetime = Field(sa_column=time_column(default_now=True))
    dispatched_at: datetime | None = Field(default=None, sa_column=time_column(nullable=True))
    finished_at: datetime | None = Field(default=None, sa_column=time_column(nullable=True))
    last_error: str | None = Field(default=None, sa_column=text_column(nullable=True))


class LeaseRow(SQLModel, table=True):
    """One claim of one worker process: while it is renewed, its submissions belong to that process."""

    __tablename__ = "lease"
    __table_args__ = ({"schema": "ingest"},)

    token: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    worker: str = Field(sa_column=text_column(index=True))
    submission_ids: list[int] = Field(sa_column=Column(ARRAY(BigInteger), nullable=False))
    claimed_at: datetime = Field(sa_column=time_column(default_now=True))
    lease_until: datetime = Field(sa_column=time_column())


class QuarantineRow(SQLModel, table=True):
    """What could not be scored, with its reason: a submission, or a malformed message with its bytes."""

    __tablename__ = "quarantine"
    __table_args__ = (
        one_of("door", "file", "stream", "task", "broker", "worker"),
        CheckConstraint("submission_id IS NOT NULL OR payload IS NOT NULL", name="has_subject"),
        Index(
            "uq_quarantine_open_submission",
            "submission_id",
            unique=True,
            postgresql_where=text("resolved_at IS NULL AND submission_id IS NOT NULL"),
        ),
        # Erasure follows the foreign key to closed cases too.
        Index(
            "ix_quarantine_submission",
            "submission_id",
            postgresql_where=text("submission_id IS NOT NULL"),
        ),
        Index("uq_quarantine_origin", "origin", unique=True, postgresql_where=text("origin IS NOT NULL")),
        {"schema": "ingest"},
    )

    quarantine_id: int | None = Field(default=None, sa_column=key_column("quarantine_id"))
    submission_id: int | None = Field(
        default=None,
        sa_column=Column(BigInteger, ForeignKey("ingest.submission.submission_id", ondelete="CASCADE")),
    )
    door: str = Field(sa_column=text_column())
    reason: str = Field(sa_column=text_column())
    detail: str = Field(sa_column=text_column(server_default=text("''")))
    payload: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    #: Where the bytes stood (queue or stream and their digest), so that a redelivery is kept once.
    origin: str | None = Field(default=None, sa_column=text_column(nullable=True))
    quarantined_at: datetime = Field(sa_column=time_column(default_now=True))
    resolved_at: datetime | None = Field(default=None, sa_column=time_column(nullable=True))
    resolution: str | None = Field(default=None, sa_column=text_column(nullable=True))
