"""The example request that a model's archive holds."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = '0008'
down_revision = '0007'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('blobs', sa.Column('example', postgresql.JSONB(), nullable=True))


def downgrade() -> None:
    op.drop_column('blobs', 'example')
