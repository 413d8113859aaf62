"""Personal access tokens; the audit log says which of them did it."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = '0014'
down_revision = '0013'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        'access_tokens',
        sa.Column('id', sa.Uuid(), nullable=False),
        sa.Column('user_id', sa.String(length=63), nullable=False),
        sa.Column('name', sa.String(length=63), nullable=False),
        sa.Column('sha256', sa.LargeBinary(), nullable=False),
        sa.Column('scopes', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column('expires_at', sa.DateTime(timezone=True), nullable=False),
        sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
        sa.Column('last_used_at', sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(['user_id'], ['users.id'], name=op.f('fk_access_tokens_user_id_users'),
                                ondelete='CASCADE'),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_access_tokens')),
    )
    op.create_index('uq_access_tokens_sha256', 'access_tokens', ['sha256'], unique=True)
    op.create_index('uq_access_tokens_user_id_name', 'access_tokens', ['user_id', 'name'], unique=True)
    op.create_index('ix_access_tokens_expires_at', 'access_tokens', ['expires_at'])
    op.execute("""
        CREATE TRIGGER audit AFTER INSERT OR DELETE OR UPDATE OF name, scopes, expires_at ON access_tokens
        FOR EACH ROW EXECUTE FUNCTION audit_change('{id,user_id}', '{name,scopes,expires_at}')
    """)
    op.add_column('audit_entries', sa.Column('token', sa.Uuid(), nullable=True))


def downgrade() -> None:
    op.drop_column('audit_entries', 'token')
    op.drop_table('access_tokens')
