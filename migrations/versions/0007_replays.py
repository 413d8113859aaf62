"""Messages for one consumer alone: dead letters that are tried again."""

import sqlalchemy as sa
from alembic import op

revision = '0007'
down_revision = '0006'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('bus_messages', sa.Column('only_for', sa.String(length=100), nullable=True))
    op.drop_index('uq_bus_messages_event', table_name='bus_messages')
    op.create_index('uq_bus_messages_event', 'bus_messages', ['topic', 'event_id'], unique=True,
                    postgresql_where=sa.text('only_for IS NULL'))


def downgrade() -> None:
    op.execute('DELETE FROM bus_messages WHERE only_for IS NOT NULL')
    op.drop_index('uq_bus_messages_event', table_name='bus_messages')
    op.create_index('uq_bus_messages_event', 'bus_messages', ['topic', 'event_id'], unique=True)
    op.drop_column('bus_messages', 'only_for')
