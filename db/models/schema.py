"""What all tables share: named constraints, the schemas, and the column shapes in use."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, Column, DateTime, Identity, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import SQLModel

#: ingest: what came in and how far it is; score: what was decided; model: what decides;
#: pii: the only place where a student's real id meets the pseudonym; ops: runs; grader: views only.
SCHEMAS = ("ingest", "score", "model", "pii", "ops", "grader")

metadata = SQLModel.metadata
metadata.naming_convention = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


def key_column(name: str) -> Column[int]:
    """A bigint primary key that only the database hands out."""
    return Column(name, BigInteger, Identity(always=True), primary_key=True)


def text_column(*, nullable: bool = False, **options: Any) -> Column[str]:
    """Text without a length: limits are CHECKs or the border's business."""
    return Column(Text, nullable=nullable, **options)


def time_column(*, nullable: bool = False, default_now: bool = False) -> Column[Any]:
    """A moment with its time zone."""
    return Column(
        DateTime(timezone=True), nullable=nullable, server_default=text("now()") if default_now else None
    )


def json_column(*, nullable: bool = False) -> Column[Any]:
    """A JSON object, empty by default."""
    return Column(JSONB, nullable=nullable, server_default=None if nullable else text("'{}'::jsonb"))


def one_of(column: str, *values: str) -> CheckConstraint:
    """A CHECK that a text column holds one of the named values (or NULL where the column allows it)."""
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=column)
