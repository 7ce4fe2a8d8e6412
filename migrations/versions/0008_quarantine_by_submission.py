"""Cases of quarantine by their submission, so that erasing an answer need not read all of them.

Revision ID: 0008
Revises: 0007
Create Date: 2026-11-23 02:58:00
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = '0008'
down_revision: str | None = '0007'
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Add a partial index; older code needs no word of it."""
    op.create_index('ix_quarantine_submission', 'quarantine', ['submission_id'], unique=False, schema='ingest', postgresql_where=sa.text('submission_id IS NOT NULL'))


def downgrade() -> None:
    """Take it away."""
    op.drop_index('ix_quarantine_submission', table_name='quarantine', schema='ingest', postgresql_where=sa.text('submission_id IS NOT NULL'))
