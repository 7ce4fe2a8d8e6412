"""Retraining: runs with a period, a lease and a verdict, and the submissions they used.

Revision ID: 0003
Revises: 0002
Create Date: 2026-11-22 07:30:00
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = '0003'
down_revision: str | None = '0002'
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

BEFORE = "trigger IN ('manual', 'schedule', 'new_scores', 'drift', 'merge')"
AFTER = "trigger IN ('manual', 'schedule', 'new_scores', 'drift', 'agreement', 'merge')"


def upgrade() -> None:
    """Add nullable or defaulted columns and a table; older code goes on writing runs as before."""
    for column in (
        sa.Column('period', sa.Text(), nullable=True),
        sa.Column('verdict', sa.Text(), nullable=True),
        sa.Column('decision', sa.Text(), nullable=True),
        sa.Column('evidence', postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column('token', sa.Uuid(), nullable=True),
        sa.Column('worker', sa.Text(), nullable=True),
        sa.Column('lease_until', sa.DateTime(timezone=True), nullable=True),
        sa.Column('num_attempts', sa.SmallInteger(), server_default=sa.text('1'), nullable=False),
    ):
        op.add_column('training_run', column, schema='model')
    _change_triggers(AFTER)
    op.create_check_constraint(op.f('ck_training_run_verdict'), 'training_run', "verdict IN ('pass', 'fail', 'inconclusive')", schema='model')
    op.create_check_constraint(op.f('ck_training_run_decision'), 'training_run', "decision IN ('champion', 'shadow', 'registered')", schema='model')
    op.create_unique_constraint(op.f('uq_training_run_item_id_period'), 'training_run', ['item_id', 'period'], schema='model')
    op.create_index('uq_training_run_retraining', 'training_run', ['item_id'], unique=True, schema='model', postgresql_where=sa.text("state = 'running' AND period IS NOT NULL"))
    op.create_table('training_run_submission',
    sa.Column('training_run_id', sa.BigInteger(), autoincrement=False, nullable=False),
    sa.Column('submission_id', sa.BigInteger(), autoincrement=False, nullable=False),
    sa.Column('fold', sa.Text(), nullable=False),
    sa.CheckConstraint("fold IN ('train', 'validation', 'test')", name=op.f('ck_training_run_submission_fold')),
    sa.ForeignKeyConstraint(['submission_id'], ['ingest.submission.submission_id'], name=op.f('fk_training_run_submission_submission_id_submission'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['training_run_id'], ['model.training_run.training_run_id'], name=op.f('fk_training_run_submission_training_run_id_training_run'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('training_run_id', 'submission_id', name=op.f('pk_training_run_submission')),
    schema='model'
    )
    op.create_index(op.f('ix_training_run_submission_submission_id'), 'training_run_submission', ['submission_id'], unique=False, schema='model')


def downgrade() -> None:
    """Take them away, and the view on them; runs that agreement called for count as called by drift."""
    op.execute("DROP VIEW IF EXISTS grader.cross_tables")
    op.drop_table('training_run_submission', schema='model')
    op.drop_index('uq_training_run_retraining', table_name='training_run', schema='model')
    op.execute("UPDATE model.training_run SET trigger = 'drift' WHERE trigger = 'agreement'")
    _change_triggers(BEFORE)
    # Constraints on a dropped column go with it.
    for name in ('period', 'verdict', 'decision', 'evidence', 'token', 'worker', 'lease_until', 'num_attempts'):
        op.drop_column('training_run', name, schema='model')


def _change_triggers(allowed: str) -> None:
    op.drop_constraint(op.f('ck_training_run_trigger'), 'training_run', schema='model')
    op.create_check_constraint(op.f('ck_training_run_trigger'), 'training_run', allowed, schema='model')
