"""Requests for human reads, and indexes for the questions that graders ask.

Revision ID: 0005
Revises: 0004
Create Date: 2026-11-22 07:50:00
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = '0005'
down_revision: str | None = '0004'
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Add a table and indexes; older code knows neither and loses nothing."""
    op.create_table('read_request',
    sa.Column('submission_id', sa.BigInteger(), autoincrement=False, nullable=False),
    sa.Column('trait', sa.Text(), nullable=False),
    sa.Column('reason', sa.Text(), nullable=False),
    sa.Column('requested_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('requested_by', sa.Text(), nullable=False),
    sa.CheckConstraint("reason IN ('appeal', 'disagreement', 'read_behind')", name=op.f('ck_read_request_reason')),
    sa.ForeignKeyConstraint(['submission_id'], ['ingest.submission.submission_id'], name=op.f('fk_read_request_submission_id_submission'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('submission_id', 'trait', 'reason', name=op.f('pk_read_request')),
    schema='score'
    )
    op.create_index('ix_machine_score_levels', 'machine_score', ['scorer_id', 'scored_at'], schema='score', postgresql_include=['submission_id', 'trait', 'level', 'role'], postgresql_where=sa.text('level IS NOT NULL'))
    for table in ('machine_score', 'human_score'):
        op.create_index(f'ix_{table}_codes', table, ['submission_id'], schema='score', postgresql_where=sa.text('condition_code IS NOT NULL'))
    op.create_index('ix_machine_score_review', 'machine_score', ['scorer_id'], schema='score', postgresql_where=sa.text("needs_review AND role = 'champion'"))
    op.create_index('ix_machine_score_shadow', 'machine_score', ['scorer_id'], schema='score', postgresql_where=sa.text("role = 'shadow'"))
    op.create_index('ix_human_score_scored_at', 'human_score', ['scored_at'], schema='score')
    op.create_index('ix_batch_received_at', 'batch', ['received_at'], schema='ingest')
    op.create_index('ix_submission_of_batch', 'submission', ['batch_id', 'submission_id'], schema='ingest')
    # The new index serves whatever the old one did.
    op.drop_index(op.f('ix_submission_batch_id'), table_name='submission', schema='ingest')


def downgrade() -> None:
    """Take them away; views that read the table go with it and are put back by the next upgrade."""
    op.execute('DROP VIEW IF EXISTS grader.read_queue')
    op.create_index(op.f('ix_submission_batch_id'), 'submission', ['batch_id'], schema='ingest')
    op.drop_index('ix_submission_of_batch', table_name='submission', schema='ingest')
    op.drop_index('ix_batch_received_at', table_name='batch', schema='ingest')
    for table in ('machine_score', 'human_score'):
        op.drop_index(f'ix_{table}_codes', table_name=table, schema='score')
    op.drop_index('ix_human_score_scored_at', table_name='human_score', schema='score')
    for name in ('shadow', 'review', 'levels'):
        op.drop_index(f'ix_machine_score_{name}', table_name='machine_score', schema='score')
    op.drop_table('read_request', schema='score')
