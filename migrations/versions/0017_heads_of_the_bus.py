"""The newest offset of each partition of the PostgreSQL bus, so that looking for news reads no messages."""

import sqlalchemy as sa
from alembic import op

revision = '0017'
down_revision = '0016'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        'bus_heads',
        sa.Column('topic', sa.String(length=100), nullable=False),
        sa.Column('partition', sa.SmallInteger(), nullable=False),
        sa.Column('offset', sa.BigInteger(), nullable=False),
        sa.CheckConstraint('"offset" >= 1', name=op.f('ck_bus_heads_offset_from_one')),
        sa.PrimaryKeyConstraint('topic', 'partition', name=op.f('pk_bus_heads')),
    )
    op.execute("""
        INSERT INTO bus_heads (topic, partition, "offset")
        SELECT topic, partition, max("offset") FROM bus_messages GROUP BY topic, partition
    """)


def downgrade() -> None:
    op.drop_table('bus_heads')
