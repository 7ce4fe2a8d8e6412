"""How many answers a cloud was to hold, so that a larger number reaches items with few new answers.

Revision ID: 0007
Revises: 0006
Create Date: 2026-11-23 02:10:00
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = '0007'
down_revision: str | None = '0006'
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Add a column; older code leaves it at 0, and such a cloud is made again by the next night."""
    op.add_column('gw_cloud', sa.Column('num_asked', sa.Integer(), server_default=sa.text('0'), nullable=False), schema='model')


def downgrade() -> None:
    """Take it away."""
    op.drop_column('gw_cloud', 'num_asked', schema='model')
