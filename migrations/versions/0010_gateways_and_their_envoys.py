"""Which Envoy is with which gateway, and what each gateway says of a deployment's routes."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = '0010'
down_revision = '0009'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        'envoys',
        sa.Column('node', sa.String(), nullable=False),
        sa.Column('gateway', sa.String(length=40), nullable=False),
        sa.Column('seen_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
        sa.PrimaryKeyConstraint('node', name=op.f('pk_envoys')),
    )
    jsonb = postgresql.JSONB(none_as_null=True, astext_type=sa.Text())
    op.add_column('routes', sa.Column('acks', jsonb, server_default=sa.text("'{}'"), nullable=False))
    op.add_column('routes', sa.Column('clients_generation', sa.BigInteger(), server_default='0', nullable=False))
    # Until now one gateway wrote the rows; unless it was called otherwise, its word stands and need not be said again.
    op.execute("""
        UPDATE routes SET acks = jsonb_build_object('gateway', jsonb_build_object(
            'generation', generation, 'endpoints_generation', endpoints_generation,
            'weights', weights, 'rejected', rejected, 'clients', 0))
    """)


def downgrade() -> None:
    op.drop_column('routes', 'clients_generation')
    op.drop_column('routes', 'acks')
    op.drop_table('envoys')
