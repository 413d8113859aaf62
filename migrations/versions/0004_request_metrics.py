"""Requests and latencies as samples, how far they are rolled up, and what each Envoy had counted when last asked."""

from alembic import op
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

revision = '0004'
down_revision = '0003'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        'request_samples',
        sa.Column('uid', sa.Uuid(), nullable=False),
        sa.Column('at', sa.DateTime(timezone=True), nullable=False),
        sa.Column('count', sa.BigInteger(), nullable=False),
        sa.Column('version', sa.Integer(), nullable=False),
        sa.Column('resolution', sa.SmallInteger(), nullable=False),
        sa.Column('code', sa.SmallInteger(), nullable=False),
        sa.Column('client', sa.String(length=63), nullable=False),
        sa.CheckConstraint('count > 0', name=op.f('ck_request_samples_count_positive')),
        comment="requests of a deployment in the `resolution` seconds from `at`; version 0, client '': none",
    )
    op.create_table(
        'latency_samples',
        sa.Column('uid', sa.Uuid(), nullable=False),
        sa.Column('at', sa.DateTime(timezone=True), nullable=False),
        sa.Column('version', sa.Integer(), nullable=False),
        sa.Column('resolution', sa.SmallInteger(), nullable=False),
        sa.Column('code', sa.SmallInteger(), nullable=False),
        sa.Column('bins', postgresql.ARRAY(sa.SmallInteger()), nullable=False),
        sa.Column('counts', postgresql.ARRAY(sa.BigInteger()), nullable=False),
        sa.CheckConstraint('cardinality(bins) = cardinality(counts) AND cardinality(bins) > 0',
                           name=op.f('ck_latency_samples_bins_and_counts')),
        comment="their latencies in microseconds as a sparse histogram: `counts` of the circllhist `bins`",
    )
    for table in ('request_samples', 'latency_samples'):
        op.create_index(f'ix_{table}_uid', table, ['uid', 'resolution', 'at'])
        op.create_index(f'ix_{table}_at', table, ['resolution', 'at'])
    rollups = op.create_table(
        'rollups',
        sa.Column('resolution', sa.SmallInteger(), nullable=False),
        sa.Column('until', sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint('resolution', name=op.f('pk_rollups')),
    )
    for resolution in (60, 3600, 0):
        op.execute(sa.insert(rollups).values(resolution=resolution, until=sa.text("'epoch'")))
    op.create_table(
        'scrape_sources',
        sa.Column('url', sa.String(length=500), nullable=False),
        sa.Column('incarnation', sa.String(length=40), nullable=False),
        sa.Column('reading', sa.LargeBinary(), nullable=False),
        sa.Column('scraped_at', sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint('url', name=op.f('pk_scrape_sources')),
    )


def downgrade() -> None:
    op.drop_table('scrape_sources')
    op.drop_table('rollups')
    op.drop_table('latency_samples')
    op.drop_table('request_samples')
