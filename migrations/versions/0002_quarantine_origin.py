"""Quarantined bytes remember where they stood, so that a redelivery is kept once.

Revision ID: 0002
Revises: 0001
Create Date: 2026-11-22 07:10:00
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = '0002'
down_revision: str | None = '0001'
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Add a nullable column and its partial index; older workers never name either."""
    op.add_column('quarantine', sa.Column('origin', sa.Text(), nullable=True), schema='ingest')
    op.create_index('uq_quarantine_origin', 'quarantine', ['origin'], unique=True, schema='ingest', postgresql_where=sa.text('origin IS NOT NULL'))


def downgrade() -> None:
    """Take both away."""
    op.drop_index('uq_quarantine_origin', table_name='quarantine', schema='ingest')
    op.drop_column('quarantine', 'origin', schema='ingest')
