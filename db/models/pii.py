"""Schema `pii`: the only place where a student's real id meets the random pseudonym."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import Column, UniqueConstraint, Uuid, text
from sqlmodel import Field, SQLModel

from db.models.schema import text_column, time_column


class StudentRow(SQLModel, table=True):
    """One student of one source; deleting the row erases answers and scores by cascade."""

    __tablename__ = "student"
    __table_args__ = (UniqueConstraint("source", "source_student_id"), {"schema": "pii"})

    student_key: UUID = Field(
        sa_column=Column(Uuid, primary_key=True, server_default=text("gen_random_uuid()"))
    )
    source: str = Field(sa_column=text_column())
    source_student_id: str = Field(sa_column=text_column())
    created_at: datetime = Field(sa_column=time_column(default_now=True))
