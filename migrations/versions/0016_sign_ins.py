"""Sign-ins that can be looked at and ended; identities at other providers, and the memberships that come of them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = '0016'
down_revision = '0015'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        'sign_ins',
        sa.Column('id', sa.Uuid(), nullable=False),
        sa.Column('user_id', sa.String(length=63), nullable=False),
        sa.Column('method', sa.String(length=40), nullable=False),
        sa.Column('address', sa.String(length=64), nullable=False),
        sa.Column('user_agent', sa.String(length=200), nullable=False),
        sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
        sa.Column('renewed_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
        sa.Column('expires_at', sa.DateTime(timezone=True), nullable=False),
        sa.Column('ends_at', sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(['user_id'], ['users.id'], name=op.f('fk_sign_ins_user_id_users'), ondelete='CASCADE'),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_sign_ins')),
    )
    op.create_index('ix_sign_ins_user_id_id', 'sign_ins', ['user_id', 'id'])
    op.create_index('ix_sign_ins_expires_at', 'sign_ins', ['expires_at'])
    _renew_by_sign_in()
    op.create_table(
        'sign_in_codes',
        sa.Column('sha256', sa.LargeBinary(), nullable=False),
        sa.Column('sign_in_id', sa.Uuid(), nullable=False),
        sa.Column('challenge', sa.String(length=43), nullable=False),
        sa.Column('redirect_uri', sa.String(length=500), nullable=False),
        sa.Column('expires_at', sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(['sign_in_id'], ['sign_ins.id'], name=op.f('fk_sign_in_codes_sign_in_id_sign_ins'),
                                ondelete='CASCADE'),
        sa.PrimaryKeyConstraint('sha256', name=op.f('pk_sign_in_codes')),
    )
    op.create_index('ix_sign_in_codes_sign_in_id', 'sign_in_codes', ['sign_in_id'])
    op.create_index('ix_sign_in_codes_expires_at', 'sign_in_codes', ['expires_at'])
    op.create_table(
        'identities',
        sa.Column('issuer', sa.String(length=500), nullable=False),
        sa.Column('subject', sa.String(length=255), nullable=False),
        sa.Column('user_id', sa.String(length=63), nullable=False),
        sa.Column('provider', sa.String(length=40), nullable=False),
        sa.Column('roles', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
        sa.ForeignKeyConstraint(['user_id'], ['users.id'], name=op.f('fk_identities_user_id_users'),
                                ondelete='CASCADE'),
        sa.PrimaryKeyConstraint('issuer', 'subject', name=op.f('pk_identities')),
    )
    op.create_index('ix_identities_user_id', 'identities', ['user_id'])
    op.add_column('members', sa.Column('source', sa.String(length=40), nullable=True))
    op.execute('DROP TRIGGER audit ON members')
    _audit('members', ('group_id', 'user_id'), ('permission', 'source'))
    _audit('sign_ins', ('id', 'user_id'), ('method', 'ends_at'))
    _audit('identities', ('issuer', 'subject'), ('user_id', 'provider', 'roles'))


def downgrade() -> None:
    op.execute('DROP TRIGGER audit ON members')
    op.drop_column('members', 'source')
    _audit('members', ('group_id', 'user_id'), ('permission',))
    op.drop_table('identities')
    op.drop_table('sign_in_codes')
    op.drop_index('ix_refresh_tokens_sign_in_id', table_name='refresh_tokens')
    op.add_column('refresh_tokens', sa.Column('family', sa.String(length=36), nullable=True))
    op.add_column('refresh_tokens', sa.Column('user_id', sa.String(length=63), nullable=True))
    op.execute("""
        UPDATE refresh_tokens SET family = sign_in_id, user_id = s.user_id FROM sign_ins s WHERE s.id = sign_in_id
    """)
    op.alter_column('refresh_tokens', 'family', nullable=False)
    op.alter_column('refresh_tokens', 'user_id', nullable=False)
    op.drop_column('refresh_tokens', 'sign_in_id')
    op.create_foreign_key(op.f('fk_refresh_tokens_user_id_users'), 'refresh_tokens', 'users', ['user_id'], ['id'],
                          ondelete='CASCADE')
    op.create_index(op.f('ix_refresh_tokens_user_id'), 'refresh_tokens', ['user_id'])
    op.create_index(op.f('ix_refresh_tokens_family'), 'refresh_tokens', ['family'])
    op.drop_table('sign_ins')


def _renew_by_sign_in() -> None:
    """What was a family of refresh tokens is a sign-in. Access tokens of before name none: they have to be renewed."""
    op.execute("""
        INSERT INTO sign_ins (id, user_id, method, address, user_agent, expires_at)
        SELECT family::uuid, min(user_id), 'password', '', '', max(expires_at) FROM refresh_tokens GROUP BY family
    """)
    op.add_column('refresh_tokens', sa.Column('sign_in_id', sa.Uuid(), nullable=True))
    op.execute('UPDATE refresh_tokens SET sign_in_id = family::uuid')
    op.alter_column('refresh_tokens', 'sign_in_id', nullable=False)
    op.create_foreign_key(op.f('fk_refresh_tokens_sign_in_id_sign_ins'), 'refresh_tokens', 'sign_ins', ['sign_in_id'],
                          ['id'], ondelete='CASCADE')
    op.create_index('ix_refresh_tokens_sign_in_id', 'refresh_tokens', ['sign_in_id'])
    op.drop_column('refresh_tokens', 'family')  # with its index, and so the next
    op.drop_column('refresh_tokens', 'user_id')


def _audit(table: str, key: tuple[str, ...], shown: tuple[str, ...]) -> None:
    op.execute(f"""
        CREATE TRIGGER audit AFTER INSERT OR DELETE OR UPDATE OF {', '.join(shown)} ON {table}
        FOR EACH ROW EXECUTE FUNCTION audit_change('{{{','.join(key)}}}', '{{{','.join(shown)}}}')
    """)
