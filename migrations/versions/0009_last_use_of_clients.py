"""When a client was last let in is read from the samples, not kept beside it."""

import sqlalchemy as sa
from alembic import op

revision = '0009'
down_revision = '0008'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index('ix_request_samples_client', 'request_samples', ['uid', 'client', 'at'],
                    postgresql_where=sa.text("client <> ''"))
    op.drop_column('endpoint_clients', 'last_used_at')


def downgrade() -> None:
    op.add_column('endpoint_clients', sa.Column('last_used_at', sa.DateTime(timezone=True), nullable=True))
    op.drop_index('ix_request_samples_client', 'request_samples')
