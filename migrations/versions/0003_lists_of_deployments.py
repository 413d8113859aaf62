"""Lists of deployments by keyword, name, phase and creator; the highest version number ever given; when status changed."""

from alembic import op
import sqlalchemy as sa

revision = '0003'
down_revision = '0002'
branch_labels = None
depends_on = None

LIVE = sa.text('deleted_at IS NULL')


def upgrade() -> None:
    op.execute('CREATE EXTENSION IF NOT EXISTS pg_trgm')
    op.add_column('deployments', sa.Column('last_version', sa.BigInteger(), server_default='1', nullable=False))
    op.alter_column('deployments', 'last_version', server_default=None)
    op.add_column('deployments', sa.Column('status_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False))
    op.create_index('ix_deployments_name_live', 'deployments', ['name', 'id'], postgresql_where=LIVE)
    op.create_index('ix_deployments_phase_live', 'deployments', ['phase', 'id'], postgresql_where=LIVE)
    op.create_index('ix_deployments_mine_live', 'deployments', ['created_by', 'id'], postgresql_where=LIVE)
    op.create_index('ix_deployments_words_live', 'deployments', ['id', 'name'], postgresql_using='gin', postgresql_where=LIVE,
                    postgresql_ops={'id': 'gin_trgm_ops', 'name': 'gin_trgm_ops'})
    op.create_index('ix_deployments_status_at', 'deployments', ['status_at'])
    op.create_index('ix_deployments_updated_at', 'deployments', ['updated_at'])


def downgrade() -> None:
    for name in ('updated_at', 'status_at', 'words_live', 'mine_live', 'phase_live', 'name_live'):
        op.drop_index(f'ix_deployments_{name}', table_name='deployments')
    op.drop_column('deployments', 'status_at')
    op.drop_column('deployments', 'last_version')
    op.execute('DROP EXTENSION IF EXISTS pg_trgm')
