"""The BLAKE3 of uploaded bytes, by which pulls are checked."""

import sqlalchemy as sa
from alembic import op

revision = '0019'
down_revision = '0018'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('blobs', sa.Column('blake3', sa.String(length=64), nullable=True))


def downgrade() -> None:
    op.drop_column('blobs', 'blake3')
