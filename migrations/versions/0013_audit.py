"""The audit log; and what a change was, said by the database itself."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = '0013'
down_revision = '0012'
branch_labels = None
depends_on = None

# Of each table, what names a row and what of it the log shows: listed, so that nothing secret gets there by being
# forgotten. A deployment's spec is kept by its revisions; here stands which one. Only columns that API commands write
# are listed, so what reconcilers do costs nothing.
AUDITED = {
    'users': (('id',), ('display_name', 'email', 'admin', 'disabled')),
    'groups': (
        ('id',),
        ('name', 'deployment_enabled', 'quota_cpu', 'quota_memory', 'quota_gpu', 'quota_deployments'),
    ),
    'members': (('group_id', 'user_id'), ('permission',)),
    'instance_types': (
        ('id',),
        ('name', 'cpu', 'memory', 'gpu', 'gpu_model', 'node_selector', 'tolerations', 'groups'),
    ),
    'models': (('group_id', 'name'), ('framework', 'description', 'tags')),
    'model_versions': (('model_id', 'number'), ('framework', 'description', 'digest', 'run')),
    'model_aliases': (('model_id', 'alias'), ('number',)),
    'deployments': (('uid', 'id'), ('name', 'stopped', 'generation', 'revision', 'message', 'deleted_at')),
    'endpoint_clients': (('uid', 'name'), ('expires_at', 'version')),
}


def upgrade() -> None:
    jsonb = postgresql.JSONB(none_as_null=True, astext_type=sa.Text())
    op.create_table(
        'audit_entries',
        sa.Column('id', sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column('at', sa.DateTime(timezone=True), server_default=sa.text('clock_timestamp()'), nullable=False),
        sa.Column('service', sa.String(length=20), nullable=False),
        sa.Column('user_id', sa.String(length=63), nullable=True),
        sa.Column('group_id', sa.String(length=40), nullable=True),
        sa.Column('action', sa.String(length=100), nullable=False),
        sa.Column('method', sa.String(length=10), nullable=False),
        sa.Column('path', sa.String(length=1000), nullable=False),
        sa.Column('outcome', sa.String(length=10), nullable=False),
        sa.Column('status', sa.BigInteger(), nullable=False),
        sa.Column('code', sa.String(length=100), nullable=True),
        sa.Column('request_id', sa.String(length=128), nullable=False),
        sa.Column('address', sa.String(length=64), nullable=False),
        sa.Column('changes', jsonb, nullable=False),
        sa.Column('position', sa.BigInteger(), nullable=True),
        sa.Column('hash', sa.String(length=64), nullable=True),
        sa.CheckConstraint('(position IS NULL) = (hash IS NULL)', name=op.f('ck_audit_entries_position_with_hash')),
        sa.CheckConstraint("outcome IN ('done', 'denied')", name=op.f('ck_audit_entries_outcome_known')),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_audit_entries')),
    )
    op.create_index('uq_audit_entries_position', 'audit_entries', ['position'], unique=True)
    op.create_index('ix_audit_entries_unsealed', 'audit_entries', ['id'],
                    postgresql_where=sa.text('position IS NULL'))
    op.create_index('ix_audit_entries_at_id', 'audit_entries', ['at', 'id'])
    op.create_index('ix_audit_entries_user_id_at_id', 'audit_entries', ['user_id', 'at', 'id'])
    op.create_index('ix_audit_entries_group_id_at_id', 'audit_entries', ['group_id', 'at', 'id'])
    _keep_entries()
    _collect_changes()


def downgrade() -> None:
    for table in AUDITED:
        op.execute(f'DROP TRIGGER audit ON {table}')
    op.execute('DROP FUNCTION audit_change()')
    op.drop_table('audit_entries')
    op.execute('DROP FUNCTION audit_keep()')


def _keep_entries() -> None:
    op.execute("""
        CREATE FUNCTION audit_keep() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP = 'UPDATE' THEN
                IF OLD.position IS NULL
                   AND to_jsonb(NEW) - '{position,hash}'::text[] = to_jsonb(OLD) - '{position,hash}'::text[] THEN
                    RETURN NEW;  -- sealed, once
                END IF;
            END IF;
            RAISE EXCEPTION 'the audit log is append-only';
        END $$
    """)
    op.execute("""
        CREATE TRIGGER keep BEFORE UPDATE OR DELETE ON audit_entries
        FOR EACH ROW EXECUTE FUNCTION audit_keep()
    """)
    op.execute("""
        CREATE TRIGGER keep_all BEFORE TRUNCATE ON audit_entries
        FOR EACH STATEMENT EXECUTE FUNCTION audit_keep()
    """)


def _collect_changes() -> None:
    """Each changed row is added to a setting of its transaction, of which an audit entry of it takes them.

    With 64 KiB that is full: of a change to a great many rows the first are shown, and that there were more.
    """
    op.execute("""
        CREATE FUNCTION audit_change() RETURNS trigger LANGUAGE plpgsql AS $$
        DECLARE
            before jsonb := CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) END;
            after jsonb := CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) END;
            so_far text := coalesce(current_setting('moorage.audit_changes', true), '');
            shown_before jsonb;
            shown_after jsonb;
        BEGIN
            IF so_far LIKE '%"omitted": true}' THEN
                RETURN NULL;
            END IF;
            IF length(so_far) > 65536 THEN
                PERFORM set_config('moorage.audit_changes', so_far || ', {"omitted": true}', true);
                RETURN NULL;
            END IF;
            SELECT jsonb_object_agg(name, before -> name), jsonb_object_agg(name, after -> name)
            INTO shown_before, shown_after
            FROM unnest(TG_ARGV[1]::text[]) AS name
            WHERE before IS NULL OR after IS NULL OR before -> name IS DISTINCT FROM after -> name;
            IF shown_before IS NULL AND shown_after IS NULL THEN
                RETURN NULL;
            END IF;
            PERFORM set_config(
                'moorage.audit_changes',
                concat_ws(', ', nullif(so_far, ''), jsonb_build_object(
                    'kind', TG_TABLE_NAME,
                    'key', (SELECT jsonb_object_agg(name, coalesce(after, before) -> name)
                            FROM unnest(TG_ARGV[0]::text[]) AS name),
                    'before', CASE WHEN before IS NOT NULL THEN shown_before END,
                    'after', CASE WHEN after IS NOT NULL THEN shown_after END
                )::text),
                true
            );
            RETURN NULL;
        END $$
    """)
    for table, (key, shown) in AUDITED.items():
        op.execute(f"""
            CREATE TRIGGER audit AFTER INSERT OR DELETE OR UPDATE OF {', '.join(shown)} ON {table}
            FOR EACH ROW EXECUTE FUNCTION audit_change('{{{','.join(key)}}}', '{{{','.join(shown)}}}')
        """)
