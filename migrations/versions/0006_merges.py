"""Merging: nightly GW runs, clouds, distances, proposals with their events, pins.

Revision ID: 0006
Revises: 0005
Create Date: 2026-11-22 09:40:00
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = '0006'
down_revision: str | None = '0005'
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

# The rights of the owner: who erases an answer needs none on the cloud.
DROP_CLOUD = """
CREATE FUNCTION model.drop_cloud() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM model.gw_cloud WHERE digest = OLD.digest;
    RETURN NULL;
END $$
"""
ON_ERASURE = """
CREATE TRIGGER drop_cloud AFTER DELETE ON model.gw_cloud_submission
FOR EACH ROW EXECUTE FUNCTION model.drop_cloud()
"""


def upgrade() -> None:
    """Add tables, and a trigger: features of an erased answer are not kept."""
    op.create_table('gw_run',
    sa.Column('gw_run_id', sa.BigInteger(), sa.Identity(always=True), nullable=False),
    sa.Column('period', sa.Text(), nullable=False),
    sa.Column('trigger', sa.Text(), nullable=False),
    sa.Column('state', sa.Text(), nullable=False),
    sa.Column('settings', postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False),
    sa.Column('report', postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False),
    sa.Column('error', sa.Text(), nullable=True),
    sa.Column('token', sa.Uuid(), nullable=True),
    sa.Column('worker', sa.Text(), nullable=True),
    sa.Column('lease_until', sa.DateTime(timezone=True), nullable=True),
    sa.Column('num_attempts', sa.SmallInteger(), server_default=sa.text('1'), nullable=False),
    sa.Column('started_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('finished_at', sa.DateTime(timezone=True), nullable=True),
    sa.CheckConstraint("state IN ('running', 'done', 'failed')", name=op.f('ck_gw_run_state')),
    sa.CheckConstraint("trigger IN ('schedule', 'manual')", name=op.f('ck_gw_run_trigger')),
    sa.PrimaryKeyConstraint('gw_run_id', name=op.f('pk_gw_run')),
    sa.UniqueConstraint('period', name=op.f('uq_gw_run_period')),
    schema='model'
    )
    op.create_table('merge_pin',
    sa.Column('first', sa.Text(), nullable=False),
    sa.Column('second', sa.Text(), nullable=False),
    sa.Column('kind', sa.Text(), nullable=False),
    sa.Column('set_by', sa.Text(), nullable=False),
    sa.Column('reason', sa.Text(), nullable=False),
    sa.Column('set_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.CheckConstraint("CASE WHEN kind = 'alone' THEN first = second ELSE first < second END", name=op.f('ck_merge_pin_pair')),
    sa.CheckConstraint("kind IN ('together', 'apart', 'alone')", name=op.f('ck_merge_pin_kind')),
    sa.ForeignKeyConstraint(['first'], ['model.item.item_id'], name=op.f('fk_merge_pin_first_item')),
    sa.ForeignKeyConstraint(['second'], ['model.item.item_id'], name=op.f('fk_merge_pin_second_item')),
    sa.PrimaryKeyConstraint('first', 'second', name=op.f('pk_merge_pin')),
    schema='model'
    )
    op.create_table('merge_proposal',
    sa.Column('merge_proposal_id', sa.BigInteger(), sa.Identity(always=True), nullable=False),
    sa.Column('gw_run_id', sa.BigInteger(), autoincrement=False, nullable=False),
    sa.Column('kind', sa.Text(), nullable=False),
    sa.Column('state', sa.Text(), server_default=sa.text("'proposed'"), nullable=False),
    sa.Column('items', postgresql.ARRAY(sa.Text()), nullable=False),
    sa.Column('criterion', sa.Text(), nullable=False),
    sa.Column('method', sa.Text(), nullable=False),
    sa.Column('extractor_id', sa.BigInteger(), nullable=True),
    sa.Column('distance', sa.Double(), nullable=False),
    sa.Column('distance_rank', sa.Integer(), nullable=False),
    sa.Column('num_pairs', sa.Integer(), nullable=False),
    sa.Column('noise_floor', sa.Double(), nullable=True),
    sa.Column('num_extractors_saved', sa.Integer(), nullable=False),
    sa.Column('num_bytes_before', sa.BigInteger(), nullable=False),
    sa.Column('num_bytes_after', sa.BigInteger(), nullable=False),
    sa.Column('verdict', sa.Text(), nullable=False),
    sa.Column('evidence', postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False),
    sa.Column('alternatives', postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'[]'::jsonb"), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('changed_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.CheckConstraint("kind IN ('merge', 'join', 'split')", name=op.f('ck_merge_proposal_kind')),
    sa.CheckConstraint("method IN ('joint', 'least_squares', 'mean', 'own')", name=op.f('ck_merge_proposal_method')),
    sa.CheckConstraint("state IN ('proposed', 'shadow', 'approved', 'promoted', 'rolled_back', 'rejected', 'superseded')", name=op.f('ck_merge_proposal_state')),
    sa.CheckConstraint("verdict IN ('pass', 'fail', 'inconclusive')", name=op.f('ck_merge_proposal_verdict')),
    sa.CheckConstraint('cardinality(items) >= 1', name=op.f('ck_merge_proposal_items')),
    sa.ForeignKeyConstraint(['extractor_id'], ['model.extractor.extractor_id'], name=op.f('fk_merge_proposal_extractor_id_extractor')),
    sa.ForeignKeyConstraint(['gw_run_id'], ['model.gw_run.gw_run_id'], name=op.f('fk_merge_proposal_gw_run_id_gw_run')),
    sa.PrimaryKeyConstraint('merge_proposal_id', name=op.f('pk_merge_proposal')),
    sa.UniqueConstraint('gw_run_id', 'items', name=op.f('uq_merge_proposal_gw_run_id_items')),
    schema='model'
    )
    op.create_index('ix_merge_proposal_pending', 'merge_proposal', ['state'], unique=False, schema='model', postgresql_where=sa.text("state IN ('proposed', 'shadow', 'approved')"))
    op.create_table('merge_event',
    sa.Column('merge_event_id', sa.BigInteger(), sa.Identity(always=True), nullable=False),
    sa.Column('merge_proposal_id', sa.BigInteger(), nullable=False),
    sa.Column('at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('actor', sa.Text(), nullable=False),
    sa.Column('state', sa.Text(), nullable=False),
    sa.Column('reason', sa.Text(), nullable=False),
    sa.Column('detail', postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False),
    sa.CheckConstraint("state IN ('proposed', 'shadow', 'approved', 'promoted', 'rolled_back', 'rejected', 'superseded')", name=op.f('ck_merge_event_state')),
    sa.ForeignKeyConstraint(['merge_proposal_id'], ['model.merge_proposal.merge_proposal_id'], name=op.f('fk_merge_event_merge_proposal_id_merge_proposal'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('merge_event_id', name=op.f('pk_merge_event')),
    schema='model'
    )
    op.create_index(op.f('ix_merge_event_merge_proposal_id'), 'merge_event', ['merge_proposal_id'], unique=False, schema='model')
    op.create_table('gw_cloud',
    sa.Column('digest', sa.Text(), nullable=False),
    sa.Column('item_id', sa.Text(), nullable=False),
    sa.Column('scorer_id', sa.BigInteger(), nullable=False),
    sa.Column('num_answers', sa.Integer(), nullable=False),
    sa.Column('hidden_size', sa.Integer(), nullable=False),
    sa.Column('seed', sa.BigInteger(), nullable=False),
    sa.Column('scale', sa.Double(), nullable=False),
    sa.Column('noise_floor', sa.Double(), nullable=True),
    sa.Column('features', sa.LargeBinary(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.CheckConstraint('num_answers > 0 AND hidden_size > 0', name=op.f('ck_gw_cloud_sizes')),
    sa.CheckConstraint('octet_length(features) = 2 * num_answers * hidden_size', name=op.f('ck_gw_cloud_features')),
    sa.ForeignKeyConstraint(['item_id'], ['model.item.item_id'], name=op.f('fk_gw_cloud_item_id_item')),
    sa.ForeignKeyConstraint(['scorer_id'], ['model.scorer.scorer_id'], name=op.f('fk_gw_cloud_scorer_id_scorer')),
    sa.PrimaryKeyConstraint('digest', name=op.f('pk_gw_cloud')),
    schema='model'
    )
    op.create_index(op.f('ix_gw_cloud_item_id'), 'gw_cloud', ['item_id'], unique=False, schema='model')
    op.create_table('merge_member',
    sa.Column('merge_proposal_id', sa.BigInteger(), autoincrement=False, nullable=False),
    sa.Column('item_id', sa.Text(), nullable=False),
    sa.Column('scorer_before', sa.BigInteger(), nullable=False),
    sa.Column('scorer_after', sa.BigInteger(), nullable=False),
    sa.Column('num_answers', sa.Integer(), nullable=False),
    sa.Column('qwk_before', sa.Double(), nullable=True),
    sa.Column('qwk_after', sa.Double(), nullable=True),
    sa.Column('qwk_change_low', sa.Double(), nullable=True),
    sa.Column('qwk_change_high', sa.Double(), nullable=True),
    sa.Column('verdict', sa.Text(), nullable=False),
    sa.Column('figures', postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False),
    sa.CheckConstraint("verdict IN ('pass', 'fail', 'inconclusive')", name=op.f('ck_merge_member_verdict')),
    sa.ForeignKeyConstraint(['item_id'], ['model.item.item_id'], name=op.f('fk_merge_member_item_id_item')),
    sa.ForeignKeyConstraint(['merge_proposal_id'], ['model.merge_proposal.merge_proposal_id'], name=op.f('fk_merge_member_merge_proposal_id_merge_proposal'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['scorer_after', 'item_id'], ['model.scorer.scorer_id', 'model.scorer.item_id'], name='fk_merge_member_after_of_item'),
    sa.ForeignKeyConstraint(['scorer_before', 'item_id'], ['model.scorer.scorer_id', 'model.scorer.item_id'], name='fk_merge_member_before_of_item'),
    sa.PrimaryKeyConstraint('merge_proposal_id', 'item_id', name=op.f('pk_merge_member')),
    schema='model'
    )
    op.create_index(op.f('ix_merge_member_scorer_after'), 'merge_member', ['scorer_after'], unique=False, schema='model')
    op.create_index(op.f('ix_merge_member_scorer_before'), 'merge_member', ['scorer_before'], unique=False, schema='model')
    op.create_table('gw_cloud_submission',
    sa.Column('digest', sa.Text(), nullable=False),
    sa.Column('submission_id', sa.BigInteger(), autoincrement=False, nullable=False),
    sa.ForeignKeyConstraint(['digest'], ['model.gw_cloud.digest'], name=op.f('fk_gw_cloud_submission_digest_gw_cloud'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['submission_id'], ['ingest.submission.submission_id'], name=op.f('fk_gw_cloud_submission_submission_id_submission'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('digest', 'submission_id', name=op.f('pk_gw_cloud_submission')),
    schema='model'
    )
    op.create_index(op.f('ix_gw_cloud_submission_submission_id'), 'gw_cloud_submission', ['submission_id'], unique=False, schema='model')
    op.create_table('gw_distance',
    sa.Column('first_digest', sa.Text(), nullable=False),
    sa.Column('second_digest', sa.Text(), nullable=False),
    sa.Column('settings_key', sa.Text(), nullable=False),
    sa.Column('distance', sa.Double(), nullable=False),
    sa.Column('lower_bound', sa.Double(), nullable=False),
    sa.Column('num_answers', sa.Integer(), nullable=False),
    sa.Column('is_solved', sa.Boolean(), nullable=False),
    sa.Column('is_certified', sa.Boolean(), nullable=False),
    sa.Column('gw_run_id', sa.BigInteger(), autoincrement=False, nullable=False),
    sa.Column('computed_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.CheckConstraint('NOT is_solved OR lower_bound <= distance + 1e-9', name=op.f('ck_gw_distance_bound')),
    sa.ForeignKeyConstraint(['first_digest'], ['model.gw_cloud.digest'], name=op.f('fk_gw_distance_first_digest_gw_cloud'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['gw_run_id'], ['model.gw_run.gw_run_id'], name=op.f('fk_gw_distance_gw_run_id_gw_run'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['second_digest'], ['model.gw_cloud.digest'], name=op.f('fk_gw_distance_second_digest_gw_cloud'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('first_digest', 'second_digest', 'settings_key', name=op.f('pk_gw_distance')),
    schema='model'
    )
    op.create_index(op.f('ix_gw_distance_second_digest'), 'gw_distance', ['second_digest'], unique=False, schema='model')
    op.create_table('gw_run_cloud',
    sa.Column('gw_run_id', sa.BigInteger(), autoincrement=False, nullable=False),
    sa.Column('item_id', sa.Text(), nullable=False),
    sa.Column('digest', sa.Text(), nullable=False),
    sa.ForeignKeyConstraint(['digest'], ['model.gw_cloud.digest'], name=op.f('fk_gw_run_cloud_digest_gw_cloud'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['gw_run_id'], ['model.gw_run.gw_run_id'], name=op.f('fk_gw_run_cloud_gw_run_id_gw_run'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['item_id'], ['model.item.item_id'], name=op.f('fk_gw_run_cloud_item_id_item')),
    sa.PrimaryKeyConstraint('gw_run_id', 'item_id', name=op.f('pk_gw_run_cloud')),
    schema='model'
    )
    op.create_index(op.f('ix_gw_run_cloud_digest'), 'gw_run_cloud', ['digest'], unique=False, schema='model')
    op.execute(DROP_CLOUD)
    op.execute(ON_ERASURE)


def downgrade() -> None:
    """Take them away, and the views on them, which a later upgrade puts back."""
    op.execute("DROP VIEW IF EXISTS grader.distances, grader.merge_changes, grader.merge_items, grader.merges")
    op.drop_index(op.f('ix_gw_run_cloud_digest'), table_name='gw_run_cloud', schema='model')
    op.drop_table('gw_run_cloud', schema='model')
    op.drop_index(op.f('ix_gw_distance_second_digest'), table_name='gw_distance', schema='model')
    op.drop_table('gw_distance', schema='model')
    op.drop_index(op.f('ix_gw_cloud_submission_submission_id'), table_name='gw_cloud_submission', schema='model')
    op.drop_table('gw_cloud_submission', schema='model')
    op.execute("DROP FUNCTION model.drop_cloud()")
    op.drop_index(op.f('ix_merge_member_scorer_before'), table_name='merge_member', schema='model')
    op.drop_index(op.f('ix_merge_member_scorer_after'), table_name='merge_member', schema='model')
    op.drop_table('merge_member', schema='model')
    op.drop_index(op.f('ix_gw_cloud_item_id'), table_name='gw_cloud', schema='model')
    op.drop_table('gw_cloud', schema='model')
    op.drop_index(op.f('ix_merge_event_merge_proposal_id'), table_name='merge_event', schema='model')
    op.drop_table('merge_event', schema='model')
    op.drop_index('ix_merge_proposal_pending', table_name='merge_proposal', schema='model', postgresql_where=sa.text("state IN ('proposed', 'shadow', 'approved')"))
    op.drop_table('merge_proposal', schema='model')
    op.drop_table('merge_pin', schema='model')
    op.drop_table('gw_run', schema='model')
