"""A client's token before goes on being let in for a while after a rotation."""

import sqlalchemy as sa
from alembic import op

revision = '0012'
down_revision = '0011'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('endpoint_clients', sa.Column('previous_sha1', sa.String(length=28), nullable=True))
    op.add_column('endpoint_clients', sa.Column('previous_until', sa.DateTime(timezone=True), nullable=True))
    op.add_column('endpoint_clients', sa.Column('mark', sa.String(length=20), nullable=True))
    op.create_check_constraint(op.f('ck_endpoint_clients_previous_sha1_base64'), 'endpoint_clients',
                               "previous_sha1 ~ '^[A-Za-z0-9+/]{27}=$'")
    op.create_check_constraint(op.f('ck_endpoint_clients_overlap_whole'), 'endpoint_clients',
                               'num_nulls(previous_sha1, previous_until, mark) IN (0, 3)')


def downgrade() -> None:
    op.drop_constraint(op.f('ck_endpoint_clients_overlap_whole'), 'endpoint_clients', type_='check')
    op.drop_constraint(op.f('ck_endpoint_clients_previous_sha1_base64'), 'endpoint_clients', type_='check')
    op.drop_column('endpoint_clients', 'mark')
    op.drop_column('endpoint_clients', 'previous_until')
    op.drop_column('endpoint_clients', 'previous_sha1')
