"""Schema `ops`: scheduled runs; (kind, period) makes a nightly run single, however many beats tick."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlmodel import Field, SQLModel

from db.models.schema import json_column, one_of, text_column, time_column


class RunRow(SQLModel, table=True):
    """One run of a scheduled kind of work for one period."""

    __tablename__ = "run"
    __table_args__ = (one_of("state", "running", "done", "failed"), {"schema": "ops"})

    kind: str = Field(sa_column=text_column(primary_key=True))
    period: str = Field(sa_column=text_column(primary_key=True))
    state: str = Field(sa_column=text_column())
    report: dict[str, Any] = Field(sa_column=json_column())
    started_at: datetime = Field(sa_column=time_column(default_now=True))
    finished_at: datetime | None = Field(default=None, sa_column=time_column(nullable=True))
