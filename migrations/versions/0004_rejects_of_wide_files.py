"""A line of a wide file holds several answers: each may be rejected.

Revision ID: 0004
Revises: 0003
Create Date: 2026-11-22 07:40:00
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = '0004'
down_revision: str | None = '0003'
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Add a defaulted column and let the key include it; older code goes on writing one reject a line."""
    op.add_column('reject', sa.Column('part', sa.SmallInteger(), server_default=sa.text('1'), nullable=False), schema='ingest')
    op.drop_constraint(op.f('pk_reject'), 'reject', schema='ingest', type_='primary')
    op.create_primary_key(op.f('pk_reject'), 'reject', ['batch_id', 'line', 'part'], schema='ingest')


def downgrade() -> None:
    """Keep the first reject of each line."""
    op.execute('DELETE FROM ingest.reject WHERE part > 1')
    op.drop_constraint(op.f('pk_reject'), 'reject', schema='ingest', type_='primary')
    op.create_primary_key(op.f('pk_reject'), 'reject', ['batch_id', 'line'], schema='ingest')
    op.drop_column('reject', 'part', schema='ingest')
