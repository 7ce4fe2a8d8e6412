"""The first tables.

Revision ID: 0001
Revises: 
Create Date: 2026-11-22 06:15:56.732453
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = '0001'
down_revision: str | None = None
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


SCHEMAS = ("ingest", "score", "model", "pii", "ops", "grader")


def upgrade() -> None:
    """Create the schemas and their tables."""
    for schema in SCHEMAS:
        op.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
    op.create_table('batch',
    sa.Column('batch_id', sa.BigInteger(), sa.Identity(always=True), nullable=False),
    sa.Column('source', sa.Text(), nullable=False),
    sa.Column('file_name', sa.Text(), nullable=False),
    sa.Column('file_format', sa.Text(), nullable=False),
    sa.Column('file_sha256', sa.Text(), nullable=False),
    sa.Column('file_num_bytes', sa.BigInteger(), nullable=False),
    sa.Column('num_rows', sa.Integer(), server_default=sa.text('0'), nullable=False),
    sa.Column('num_accepted', sa.Integer(), server_default=sa.text('0'), nullable=False),
    sa.Column('num_repeated', sa.Integer(), server_default=sa.text('0'), nullable=False),
    sa.Column('num_conflicts', sa.Integer(), server_default=sa.text('0'), nullable=False),
    sa.Column('num_rejected', sa.Integer(), server_default=sa.text('0'), nullable=False),
    sa.Column('received_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.CheckConstraint('num_rows = num_accepted + num_repeated + num_conflicts + num_rejected', name=op.f('ck_batch_counts_add_up')),
    sa.PrimaryKeyConstraint('batch_id', name=op.f('pk_batch')),
    sa.UniqueConstraint('source', 'file_sha256', name=op.f('uq_batch_source_file_sha256')),
    schema='ingest'
    )
    op.create_table('lease',
    sa.Column('token', sa.Uuid(), nullable=False),
    sa.Column('worker', sa.Text(), nullable=False),
    sa.Column('submission_ids', postgresql.ARRAY(sa.BigInteger()), nullable=False),
    sa.Column('claimed_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('lease_until', sa.DateTime(timezone=True), nullable=False),
    sa.PrimaryKeyConstraint('token', name=op.f('pk_lease')),
    schema='ingest'
    )
    op.create_index(op.f('ix_lease_worker'), 'lease', ['worker'], unique=False, schema='ingest')
    op.create_table('epoch',
    sa.Column('only_row', sa.Boolean(), nullable=False),
    sa.Column('epoch', sa.BigInteger(), server_default=sa.text('0'), nullable=False),
    sa.CheckConstraint('only_row', name=op.f('ck_epoch_only_row')),
    sa.PrimaryKeyConstraint('only_row', name=op.f('pk_epoch')),
    schema='model'
    )
    op.create_table('extractor',
    sa.Column('extractor_id', sa.BigInteger(), sa.Identity(always=True), nullable=False),
    sa.Column('extractor_key', sa.Text(), nullable=False),
    sa.Column('kind', sa.Text(), nullable=False),
    sa.Column('backbone', sa.Text(), nullable=False),
    sa.Column('backbone_revision', sa.Text(), nullable=False),
    sa.Column('rank', sa.Integer(), nullable=False),
    sa.Column('alpha', sa.REAL(), nullable=False),
    sa.Column('target_modules', postgresql.ARRAY(sa.Text()), nullable=False),
    sa.Column('parents', postgresql.ARRAY(sa.BigInteger()), server_default=sa.text("'{}'"), nullable=False),
    sa.Column('num_bytes', sa.BigInteger(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.CheckConstraint("extractor_key ~ '^[0-9a-f]{64}$'", name=op.f('ck_extractor_extractor_key')),
    sa.CheckConstraint("kind IN ('item', 'merged')", name=op.f('ck_extractor_kind')),
    sa.PrimaryKeyConstraint('extractor_id', name=op.f('pk_extractor')),
    sa.UniqueConstraint('extractor_key', name=op.f('uq_extractor_extractor_key')),
    schema='model'
    )
    op.create_table('item',
    sa.Column('item_id', sa.Text(), nullable=False),
    sa.Column('prompt', sa.Text(), nullable=False),
    sa.Column('language', sa.Text(), nullable=False),
    sa.Column('rubric', sa.Text(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('retired_at', sa.DateTime(timezone=True), nullable=True),
    sa.CheckConstraint('length(item_id) BETWEEN 1 AND 200', name=op.f('ck_item_item_id_length')),
    sa.PrimaryKeyConstraint('item_id', name=op.f('pk_item')),
    schema='model'
    )
    op.create_table('run',
    sa.Column('kind', sa.Text(), nullable=False),
    sa.Column('period', sa.Text(), nullable=False),
    sa.Column('state', sa.Text(), nullable=False),
    sa.Column('report', postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False),
    sa.Column('started_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('finished_at', sa.DateTime(timezone=True), nullable=True),
    sa.CheckConstraint("state IN ('running', 'done', 'failed')", name=op.f('ck_run_state')),
    sa.PrimaryKeyConstraint('kind', 'period', name=op.f('pk_run')),
    schema='ops'
    )
    op.create_table('student',
    sa.Column('student_key', sa.Uuid(), server_default=sa.text('gen_random_uuid()'), nullable=False),
    sa.Column('source', sa.Text(), nullable=False),
    sa.Column('source_student_id', sa.Text(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.PrimaryKeyConstraint('student_key', name=op.f('pk_student')),
    sa.UniqueConstraint('source', 'source_student_id', name=op.f('uq_student_source_source_student_id')),
    schema='pii'
    )
    op.create_table('audit',
    sa.Column('audit_id', sa.BigInteger(), sa.Identity(always=True), nullable=False),
    sa.Column('at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('actor', sa.Text(), nullable=False),
    sa.Column('action', sa.Text(), nullable=False),
    sa.Column('subject', sa.Text(), nullable=False),
    sa.Column('detail', postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False),
    sa.PrimaryKeyConstraint('audit_id', name=op.f('pk_audit')),
    schema='score'
    )
    op.create_table('reject',
    sa.Column('batch_id', sa.BigInteger(), nullable=False),
    sa.Column('line', sa.Integer(), autoincrement=False, nullable=False),
    sa.Column('reason', sa.Text(), nullable=False),
    sa.Column('detail', sa.Text(), nullable=False),
    sa.ForeignKeyConstraint(['batch_id'], ['ingest.batch.batch_id'], name=op.f('fk_reject_batch_id_batch'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('batch_id', 'line', name=op.f('pk_reject')),
    schema='ingest'
    )
    op.create_table('submission',
    sa.Column('submission_id', sa.BigInteger(), sa.Identity(always=True), nullable=False),
    sa.Column('batch_id', sa.BigInteger(), nullable=True),
    sa.Column('source', sa.Text(), nullable=False),
    sa.Column('response_id', sa.Text(), nullable=False),
    sa.Column('attempt', sa.Integer(), server_default=sa.text('1'), nullable=False),
    sa.Column('item_id', sa.Text(), nullable=False),
    sa.Column('student_key', sa.Uuid(), nullable=True),
    sa.Column('text', sa.Text(), nullable=False),
    sa.Column('text_key', sa.LargeBinary(), nullable=False),
    sa.Column('content_sha256', sa.LargeBinary(), nullable=False),
    sa.Column('submitted_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('received_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.CheckConstraint('attempt >= 1', name=op.f('ck_submission_attempt')),
    sa.CheckConstraint('octet_length(content_sha256) = 32', name=op.f('ck_submission_content_sha256')),
    sa.CheckConstraint('octet_length(text_key) = 32', name=op.f('ck_submission_text_key')),
    sa.ForeignKeyConstraint(['batch_id'], ['ingest.batch.batch_id'], name=op.f('fk_submission_batch_id_batch')),
    sa.ForeignKeyConstraint(['item_id'], ['model.item.item_id'], name=op.f('fk_submission_item_id_item')),
    sa.ForeignKeyConstraint(['student_key'], ['pii.student.student_key'], name=op.f('fk_submission_student_key_student'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('submission_id', name=op.f('pk_submission')),
    sa.UniqueConstraint('source', 'response_id', 'attempt', name=op.f('uq_submission_source_response_id_attempt')),
    schema='ingest'
    )
    op.create_index(op.f('ix_submission_batch_id'), 'submission', ['batch_id'], unique=False, schema='ingest')
    op.create_index(op.f('ix_submission_item_id'), 'submission', ['item_id'], unique=False, schema='ingest')
    op.create_index(op.f('ix_submission_student_key'), 'submission', ['student_key'], unique=False, schema='ingest')
    op.create_table('training_run',
    sa.Column('training_run_id', sa.BigInteger(), sa.Identity(always=True), nullable=False),
    sa.Column('item_id', sa.Text(), nullable=False),
    sa.Column('trigger', sa.Text(), nullable=False),
    sa.Column('state', sa.Text(), nullable=False),
    sa.Column('config', postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False),
    sa.Column('data', postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False),
    sa.Column('metrics', postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False),
    sa.Column('error', sa.Text(), nullable=True),
    sa.Column('started_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('finished_at', sa.DateTime(timezone=True), nullable=True),
    sa.CheckConstraint("state IN ('running', 'done', 'failed')", name=op.f('ck_training_run_state')),
    sa.CheckConstraint("trigger IN ('manual', 'schedule', 'new_scores', 'drift', 'merge')", name=op.f('ck_training_run_trigger')),
    sa.ForeignKeyConstraint(['item_id'], ['model.item.item_id'], name=op.f('fk_training_run_item_id_item')),
    sa.PrimaryKeyConstraint('training_run_id', name=op.f('pk_training_run')),
    schema='model'
    )
    op.create_index(op.f('ix_training_run_item_id'), 'training_run', ['item_id'], unique=False, schema='model')
    op.create_table('trait',
    sa.Column('item_id', sa.Text(), nullable=False),
    sa.Column('trait', sa.Text(), nullable=False),
    sa.Column('position', sa.SmallInteger(), nullable=False),
    sa.Column('num_levels', sa.SmallInteger(), nullable=False),
    sa.Column('labels', postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
    sa.CheckConstraint('cardinality(labels) IN (0, num_levels)', name=op.f('ck_trait_labels')),
    sa.CheckConstraint('num_levels BETWEEN 2 AND 100', name=op.f('ck_trait_num_levels')),
    sa.ForeignKeyConstraint(['item_id'], ['model.item.item_id'], name=op.f('fk_trait_item_id_item'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('item_id', 'trait', name=op.f('pk_trait')),
    sa.UniqueConstraint('item_id', 'position', name=op.f('uq_trait_item_id_position')),
    schema='model'
    )
    op.create_table('quarantine',
    sa.Column('quarantine_id', sa.BigInteger(), sa.Identity(always=True), nullable=False),
    sa.Column('submission_id', sa.BigInteger(), nullable=True),
    sa.Column('door', sa.Text(), nullable=False),
    sa.Column('reason', sa.Text(), nullable=False),
    sa.Column('detail', sa.Text(), server_default=sa.text("''"), nullable=False),
    sa.Column('payload', sa.LargeBinary(), nullable=True),
    sa.Column('quarantined_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('resolved_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('resolution', sa.Text(), nullable=True),
    sa.CheckConstraint("door IN ('file', 'stream', 'task', 'broker', 'worker')", name=op.f('ck_quarantine_door')),
    sa.CheckConstraint('submission_id IS NOT NULL OR payload IS NOT NULL', name=op.f('ck_quarantine_has_subject')),
    sa.ForeignKeyConstraint(['submission_id'], ['ingest.submission.submission_id'], name=op.f('fk_quarantine_submission_id_submission'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('quarantine_id', name=op.f('pk_quarantine')),
    schema='ingest'
    )
    op.create_index('uq_quarantine_open_submission', 'quarantine', ['submission_id'], unique=True, schema='ingest', postgresql_where=sa.text('resolved_at IS NULL AND submission_id IS NOT NULL'))
    op.create_table('work',
    sa.Column('submission_id', sa.BigInteger(), autoincrement=False, nullable=False),
    sa.Column('item_id', sa.Text(), nullable=False),
    sa.Column('state', sa.Text(), server_default=sa.text("'ready'"), nullable=False),
    sa.Column('num_attempts', sa.SmallInteger(), server_default=sa.text('0'), nullable=False),
    sa.Column('num_solo_attempts', sa.SmallInteger(), server_default=sa.text('0'), nullable=False),
    sa.Column('token', sa.Uuid(), nullable=True),
    sa.Column('ready_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('dispatched_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('finished_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('last_error', sa.Text(), nullable=True),
    sa.CheckConstraint("(state = 'leased') = (token IS NOT NULL)", name=op.f('ck_work_token_while_leased')),
    sa.CheckConstraint("state IN ('ready', 'leased', 'done', 'quarantined')", name=op.f('ck_work_state')),
    sa.ForeignKeyConstraint(['submission_id'], ['ingest.submission.submission_id'], name=op.f('fk_work_submission_id_submission'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('submission_id', name=op.f('pk_work')),
    schema='ingest'
    )
    op.create_index('ix_work_ready', 'work', ['ready_at'], unique=False, schema='ingest', postgresql_where=sa.text("state = 'ready'"))
    op.create_index('ix_work_unfinished', 'work', ['state'], unique=False, schema='ingest', postgresql_where=sa.text("state IN ('leased', 'quarantined')"))
    op.create_table('scorer',
    sa.Column('scorer_id', sa.BigInteger(), sa.Identity(always=True), nullable=False),
    sa.Column('scorer_key', sa.Text(), nullable=False),
    sa.Column('item_id', sa.Text(), nullable=False),
    sa.Column('extractor_id', sa.BigInteger(), nullable=False),
    sa.Column('training_run_id', sa.BigInteger(), nullable=True),
    sa.Column('metrics', postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.CheckConstraint("scorer_key ~ '^[0-9a-f]{64}$'", name=op.f('ck_scorer_scorer_key')),
    sa.ForeignKeyConstraint(['extractor_id'], ['model.extractor.extractor_id'], name=op.f('fk_scorer_extractor_id_extractor')),
    sa.ForeignKeyConstraint(['item_id'], ['model.item.item_id'], name=op.f('fk_scorer_item_id_item')),
    sa.ForeignKeyConstraint(['training_run_id'], ['model.training_run.training_run_id'], name=op.f('fk_scorer_training_run_id_training_run')),
    sa.PrimaryKeyConstraint('scorer_id', name=op.f('pk_scorer')),
    sa.UniqueConstraint('scorer_id', 'item_id', name=op.f('uq_scorer_scorer_id_item_id')),
    sa.UniqueConstraint('scorer_key', name=op.f('uq_scorer_scorer_key')),
    schema='model'
    )
    op.create_index(op.f('ix_scorer_extractor_id'), 'scorer', ['extractor_id'], unique=False, schema='model')
    op.create_index(op.f('ix_scorer_item_id'), 'scorer', ['item_id'], unique=False, schema='model')
    op.create_table('human_score',
    sa.Column('human_score_id', sa.BigInteger(), sa.Identity(always=True), nullable=False),
    sa.Column('submission_id', sa.BigInteger(), nullable=False),
    sa.Column('trait', sa.Text(), nullable=False),
    sa.Column('purpose', sa.Text(), server_default=sa.text("'first'"), nullable=False),
    sa.Column('rater', sa.Text(), nullable=False),
    sa.Column('level', sa.SmallInteger(), nullable=True),
    sa.Column('condition_code', sa.Text(), nullable=True),
    sa.Column('scored_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.CheckConstraint("condition_code IN ('blank', 'too_short', 'copied_prompt', 'refused', 'wrong_language', 'not_text')", name=op.f('ck_human_score_condition_code')),
    sa.CheckConstraint("purpose IN ('appeal', 'adjudication', 'second', 'read_behind', 'first', 'training')", name=op.f('ck_human_score_purpose')),
    sa.CheckConstraint('(level IS NULL) <> (condition_code IS NULL)', name=op.f('ck_human_score_level_or_code')),
    sa.ForeignKeyConstraint(['submission_id'], ['ingest.submission.submission_id'], name=op.f('fk_human_score_submission_id_submission'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('human_score_id', name=op.f('pk_human_score')),
    sa.UniqueConstraint('submission_id', 'trait', 'purpose', 'rater', name=op.f('uq_human_score_submission_id_trait_purpose_rater')),
    schema='score'
    )
    op.create_table('alias',
    sa.Column('item_id', sa.Text(), nullable=False),
    sa.Column('alias', sa.Text(), nullable=False),
    sa.Column('scorer_id', sa.BigInteger(), nullable=False),
    sa.Column('set_by', sa.Text(), nullable=False),
    sa.Column('set_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.CheckConstraint("alias IN ('champion', 'shadow', 'previous')", name=op.f('ck_alias_alias')),
    sa.ForeignKeyConstraint(['scorer_id', 'item_id'], ['model.scorer.scorer_id', 'model.scorer.item_id'], name='fk_alias_scorer_of_item'),
    sa.PrimaryKeyConstraint('item_id', 'alias', name=op.f('pk_alias')),
    schema='model'
    )
    op.create_index(op.f('ix_alias_scorer_id'), 'alias', ['scorer_id'], unique=False, schema='model')
    op.create_table('machine_score',
    sa.Column('machine_score_id', sa.BigInteger(), sa.Identity(always=True), nullable=False),
    sa.Column('submission_id', sa.BigInteger(), nullable=False),
    sa.Column('trait', sa.Text(), nullable=False),
    sa.Column('scorer_id', sa.BigInteger(), nullable=False),
    sa.Column('role', sa.Text(), nullable=False),
    sa.Column('level', sa.SmallInteger(), nullable=True),
    sa.Column('probabilities', postgresql.ARRAY(sa.REAL()), nullable=True),
    sa.Column('confidence', sa.REAL(), nullable=True),
    sa.Column('condition_code', sa.Text(), nullable=True),
    sa.Column('needs_review', sa.Boolean(), server_default=sa.text('false'), nullable=False),
    sa.Column('engine', sa.Text(), nullable=False),
    sa.Column('scored_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.CheckConstraint("condition_code IN ('blank', 'too_short', 'copied_prompt', 'refused', 'wrong_language', 'not_text')", name=op.f('ck_machine_score_condition_code')),
    sa.CheckConstraint("role IN ('champion', 'shadow')", name=op.f('ck_machine_score_role')),
    sa.CheckConstraint('(level IS NULL) <> (condition_code IS NULL)', name=op.f('ck_machine_score_level_or_code')),
    sa.CheckConstraint('confidence BETWEEN 0 AND 1', name=op.f('ck_machine_score_confidence')),
    sa.ForeignKeyConstraint(['scorer_id'], ['model.scorer.scorer_id'], name=op.f('fk_machine_score_scorer_id_scorer')),
    sa.ForeignKeyConstraint(['submission_id'], ['ingest.submission.submission_id'], name=op.f('fk_machine_score_submission_id_submission'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('machine_score_id', name=op.f('pk_machine_score')),
    sa.UniqueConstraint('submission_id', 'trait', 'scorer_id', name=op.f('uq_machine_score_submission_id_trait_scorer_id')),
    schema='score'
    )
    op.create_index('ix_machine_score_scorer_id_scored_at', 'machine_score', ['scorer_id', 'scored_at'], unique=False, schema='score')
    op.execute("INSERT INTO model.epoch (only_row, epoch) VALUES (true, 0)")


def downgrade() -> None:
    """Drop the schemas with all that they hold."""
    for schema in reversed(SCHEMAS):
        op.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
