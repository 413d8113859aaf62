"""Service accounts: users that sign in with client credentials."""

import sqlalchemy as sa
from alembic import op

revision = '0015'
down_revision = '0014'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        'service_accounts',
        sa.Column('user_id', sa.String(length=63), nullable=False),
        sa.Column('description', sa.String(), nullable=False),
        sa.Column('sha256', sa.LargeBinary(), nullable=False),
        sa.Column('previous_sha256', sa.LargeBinary(), nullable=True),
        sa.Column('previous_until', sa.DateTime(timezone=True), nullable=True),
        sa.Column('last_used_at', sa.DateTime(timezone=True), nullable=True),
        sa.Column('created_by', sa.String(length=63), nullable=False),
        sa.Column('version', sa.BigInteger(), nullable=False),
        sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
        sa.Column('updated_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
        sa.CheckConstraint('(previous_sha256 IS NULL) = (previous_until IS NULL)',
                           name=op.f('ck_service_accounts_overlap_whole')),
        sa.ForeignKeyConstraint(['user_id'], ['users.id'], name=op.f('fk_service_accounts_user_id_users'),
                                ondelete='CASCADE'),
        sa.PrimaryKeyConstraint('user_id', name=op.f('pk_service_accounts')),
    )
    op.execute("""
        CREATE TRIGGER audit AFTER INSERT OR DELETE OR UPDATE OF description, previous_until, version ON service_accounts
        FOR EACH ROW EXECUTE FUNCTION audit_change('{user_id}', '{description,previous_until,version}')
    """)


def downgrade() -> None:
    op.drop_table('service_accounts')
