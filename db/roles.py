"""Roles with the least rights that their work needs; people and services are made members of them.

None may log in by itself. Roles belong to the whole server, so a connection that may not create any leaves
them to the server's administrator: everything else works without them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from db.models.schema import SCHEMAS

if TYPE_CHECKING:
    from sqlalchemy import Connection


@dataclass(frozen=True, slots=True)
class Role:
    """One role: what it is for, and pairs of rights and the tables they are for."""

    name: str
    purpose: str
    grants: tuple[tuple[str, str], ...]


#: Scores, audit and answers are append-only for the worker: it cannot change what has been decided or said.
WORKER = Role(
    "scorefold_worker",
    "takes answers in, claims and scores them; cannot change or delete an answer, a score or an audit row",
    (
        ("SELECT", "ingest.*"),
        ("SELECT, INSERT, UPDATE", "ingest.batch"),
        ("SELECT, INSERT, UPDATE, DELETE", "ingest.reject"),
        ("SELECT, INSERT", "ingest.submission"),
        ("SELECT, INSERT, UPDATE", "ingest.work"),
        ("SELECT, INSERT, UPDATE, DELETE", "ingest.lease"),
        ("SELECT, INSERT", "ingest.quarantine"),
        ("SELECT, INSERT", "pii.student"),
        ("SELECT", "score.*"),
        ("INSERT", "score.machine_score"),
        # At night it draws answers for people to read, and writes the morning's page.
        ("INSERT", "score.read_request"),
        ("SELECT", "grader.*"),
        ("SELECT", "model.*"),
        ("SELECT, INSERT, UPDATE", "ops.*"),
        ("SELECT", "public.alembic_version"),
    ),
)
#: The view's trigger judges and keeps what is inserted; the table behind it stays out of reach.
GRADER = Role(
    "scorefold_grader",
    "reads the graders' views and no table; gives scores through the view human_scores",
    (("SELECT", "grader.*"), ("INSERT", "grader.human_scores")),
)
PSYCHOMETRICIAN = Role(
    "scorefold_psychometrician",
    "reads the graders' views and no table",
    (("SELECT", "grader.*"),),
)
#: No text and no pseudonym: only views whose rows are sums.
BI = Role(
    "scorefold_bi",
    "reads aggregates: no answer, no pseudonym",
    (
        ("SELECT", "grader.batches"),
        ("SELECT", "grader.agreement"),
        ("SELECT", "grader.agreement_by_week"),
        ("SELECT", "grader.cross_tables"),
        ("SELECT", "grader.level_shares"),
        ("SELECT", "grader.condition_codes"),
        ("SELECT", "grader.merges"),
        ("SELECT", "grader.merge_items"),
        ("SELECT", "grader.merge_changes"),
        ("SELECT", "grader.distances"),
    ),
)
PRIVACY = Role(
    "scorefold_privacy",
    "erases students and old answers, with their scores; sees who is who, and no answer but refused bytes",
    (
        # The right to change one column is what FOR UPDATE asks for.
        ("SELECT, DELETE, UPDATE (source)", "pii.student"),
        ("SELECT (submission_id, source, response_id, attempt, item_id, student_key)", "ingest.submission"),
        ("SELECT (submitted_at, received_at)", "ingest.submission"),
        ("DELETE", "ingest.submission"),
        # Whose refused bytes are stands in the bytes alone; no right but to read them finds a student there.
        ("SELECT (quarantine_id, payload, quarantined_at, resolved_at, resolution)", "ingest.quarantine"),
        ("UPDATE (payload, detail, resolved_at, resolution)", "ingest.quarantine"),
        ("SELECT", "score.*"),
        ("INSERT", "score.audit"),
        ("SELECT", "model.*"),
    ),
)
ROLES = (WORKER, GRADER, PSYCHOMETRICIAN, BI, PRIVACY)


def refresh(connection: Connection) -> bool:
    """Make the roles that are missing, and give each exactly the rights above; for after every migration.

    Functions here have the rights of their owner: nobody else may hang one on a table of his own.

    Returns:
        False if this connection may not create roles; then nothing was changed.
    """
    for schema in SCHEMAS:
        connection.execute(text(f"REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA {schema} FROM PUBLIC"))
    may_create = connection.execute(
        text("SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user")
    ).scalar_one()
    if not may_create:
        return False
    for role in ROLES:
        _create(connection, role)
        _revoke_all(connection, role)
        for rights, target in role.grants:
            schema, table = target.split(".")
            where = f"ALL TABLES IN SCHEMA {schema}" if table == "*" else f"{schema}.{table}"
            connection.execute(text(f"GRANT USAGE ON SCHEMA {schema} TO {role.name}"))
            connection.execute(text(f"GRANT {rights} ON {where} TO {role.name}"))
    return True


def _create(connection: Connection, role: Role) -> None:
    # Roles are the server's: another database's migration may be making the same one just now.
    purpose = role.purpose.replace("'", "''")
    connection.execute(
        text(f"""
            DO $$ BEGIN
                IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role.name}') THEN
                    CREATE ROLE {role.name} NOLOGIN;
                    COMMENT ON ROLE {role.name} IS '{purpose}';
                END IF;
            EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
            END $$
        """)
    )


def _revoke_all(connection: Connection, role: Role) -> None:
    for schema in SCHEMAS:
        connection.execute(text(f"REVOKE ALL ON ALL TABLES IN SCHEMA {schema} FROM {role.name}"))
        connection.execute(text(f"REVOKE ALL ON SCHEMA {schema} FROM {role.name}"))
