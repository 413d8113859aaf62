"""Find the deployments that routes may still have to do with by their id."""

from alembic import op
import sqlalchemy as sa

revision = '0002'
down_revision = '0001'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index('ix_deployments_unpurged', 'deployments', ['id'], unique=False, postgresql_where=sa.text('purged_at IS NULL'))


def downgrade() -> None:
    op.drop_index('ix_deployments_unpurged', table_name='deployments')
