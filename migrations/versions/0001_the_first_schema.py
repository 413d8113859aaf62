"""The first schema."""

from alembic import op
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

revision = '0001'
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('blobs',
    sa.Column('digest', sa.String(length=71), nullable=False),
    sa.Column('size', sa.BigInteger(), nullable=False),
    sa.Column('created_by', sa.String(length=63), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.PrimaryKeyConstraint('digest', name=op.f('pk_blobs'))
    )
    op.create_table('bus_cursors',
    sa.Column('consumer', sa.String(length=100), nullable=False),
    sa.Column('topic', sa.String(length=100), nullable=False),
    sa.Column('partition', sa.SmallInteger(), nullable=False),
    sa.Column('offset', sa.BigInteger(), nullable=False),
    sa.Column('fence', sa.BigInteger(), nullable=False),
    sa.Column('leased_until', sa.DateTime(timezone=True), nullable=True),
    sa.PrimaryKeyConstraint('consumer', 'topic', 'partition', name=op.f('pk_bus_cursors'))
    )
    op.create_table('bus_messages',
    sa.Column('topic', sa.String(length=100), nullable=False),
    sa.Column('offset', sa.BigInteger(), nullable=False),
    sa.Column('partition', sa.SmallInteger(), nullable=False),
    sa.Column('key', sa.String(length=200), nullable=False),
    sa.Column('event_id', sa.String(length=36), nullable=False),
    sa.Column('event', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
    sa.Column('at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.PrimaryKeyConstraint('topic', 'offset', name=op.f('pk_bus_messages'))
    )
    op.create_index(op.f('ix_bus_messages_at'), 'bus_messages', ['at'], unique=False)
    op.create_index(op.f('ix_bus_messages_topic_partition_offset'), 'bus_messages', ['topic', 'partition', 'offset'], unique=False)
    op.create_index('uq_bus_messages_event', 'bus_messages', ['topic', 'event_id'], unique=True)
    op.create_table('dead_letters',
    sa.Column('id', sa.BigInteger(), sa.Identity(always=False), nullable=False),
    sa.Column('consumer', sa.String(length=100), nullable=False),
    sa.Column('topic', sa.String(length=100), nullable=False),
    sa.Column('key', sa.String(length=200), nullable=False),
    sa.Column('event', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
    sa.Column('cause', sa.String(), nullable=False),
    sa.Column('at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_dead_letters'))
    )
    op.create_table('groups',
    sa.Column('id', sa.String(length=40), nullable=False),
    sa.Column('name', sa.String(length=200), nullable=False),
    sa.Column('personal_of', sa.String(length=63), nullable=True),
    sa.Column('deployment_enabled', sa.Boolean(), nullable=False),
    sa.Column('quota_cpu', sa.Numeric(precision=18, scale=3), nullable=True),
    sa.Column('quota_memory', sa.BigInteger(), nullable=True),
    sa.Column('quota_gpu', sa.Numeric(precision=18, scale=3), nullable=True),
    sa.Column('quota_deployments', sa.BigInteger(), nullable=True),
    sa.Column('version', sa.BigInteger(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('updated_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.CheckConstraint("id ~ '^[a-z0-9]([a-z0-9-]*[a-z0-9])?$' AND length(id) <= 40", name=op.f('ck_groups_id_dns_label')),
    sa.CheckConstraint('coalesce(quota_cpu, 0) >= 0 AND coalesce(quota_memory, 0) >= 0 AND coalesce(quota_gpu, 0) >= 0 AND coalesce(quota_deployments, 0) >= 0', name=op.f('ck_groups_quota_not_negative')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_groups'))
    )
    op.create_index('uq_groups_personal_of', 'groups', ['personal_of'], unique=True)
    op.create_table('idempotent_requests',
    sa.Column('caller', sa.String(length=63), nullable=False),
    sa.Column('key', sa.String(length=255), nullable=False),
    sa.Column('request_sha256', sa.LargeBinary(), nullable=False),
    sa.Column('status', sa.SmallInteger(), nullable=True),
    sa.Column('answer', sa.LargeBinary(), nullable=True),
    sa.Column('at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.PrimaryKeyConstraint('caller', 'key', name=op.f('pk_idempotent_requests'))
    )
    op.create_index(op.f('ix_idempotent_requests_at'), 'idempotent_requests', ['at'], unique=False)
    op.create_table('inbox',
    sa.Column('consumer', sa.String(length=100), nullable=False),
    sa.Column('event_id', sa.String(length=36), nullable=False),
    sa.Column('at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.PrimaryKeyConstraint('consumer', 'event_id', name=op.f('pk_inbox'))
    )
    op.create_index(op.f('ix_inbox_at'), 'inbox', ['at'], unique=False)
    op.create_table('instance_types',
    sa.Column('id', sa.String(length=40), nullable=False),
    sa.Column('name', sa.String(length=200), nullable=False),
    sa.Column('cpu', sa.Numeric(precision=18, scale=3), nullable=False),
    sa.Column('memory', sa.BigInteger(), nullable=False),
    sa.Column('gpu', sa.Numeric(precision=18, scale=3), nullable=False),
    sa.Column('gpu_model', sa.String(length=63), nullable=True),
    sa.Column('node_selector', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
    sa.Column('tolerations', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
    sa.Column('groups', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
    sa.Column('version', sa.BigInteger(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('updated_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.CheckConstraint("id ~ '^[a-z0-9]([a-z0-9-]*[a-z0-9])?$' AND length(id) <= 40", name=op.f('ck_instance_types_id_dns_label')),
    sa.CheckConstraint('cpu > 0 AND memory > 0 AND gpu >= 0', name=op.f('ck_instance_types_sizes_positive')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_instance_types'))
    )
    op.create_table('leases',
    sa.Column('name', sa.String(length=200), nullable=False),
    sa.Column('token', sa.BigInteger(), nullable=False),
    sa.Column('owner', sa.String(length=100), nullable=False),
    sa.Column('expires_at', sa.DateTime(timezone=True), nullable=False),
    sa.PrimaryKeyConstraint('name', name=op.f('pk_leases'))
    )
    op.create_table('outbox',
    sa.Column('id', sa.BigInteger(), sa.Identity(always=False), nullable=False),
    sa.Column('topic', sa.String(length=100), nullable=False),
    sa.Column('key', sa.String(length=200), nullable=False),
    sa.Column('event', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_outbox'))
    )
    op.create_table('signing_keys',
    sa.Column('kid', sa.String(length=64), nullable=False),
    sa.Column('public_jwk', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
    sa.Column('private_sealed', sa.LargeBinary(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('retires_at', sa.DateTime(timezone=True), nullable=False),
    sa.PrimaryKeyConstraint('kid', name=op.f('pk_signing_keys'))
    )
    op.create_table('users',
    sa.Column('id', sa.String(length=63), nullable=False),
    sa.Column('display_name', sa.String(length=200), nullable=False),
    sa.Column('email', sa.String(length=320), nullable=True),
    sa.Column('admin', sa.Boolean(), nullable=False),
    sa.Column('disabled', sa.Boolean(), nullable=False),
    sa.Column('password_hash', sa.String(length=200), nullable=True),
    sa.Column('version', sa.BigInteger(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('updated_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.CheckConstraint("id ~ '^[a-z0-9][a-z0-9._-]*$' AND length(id) <= 63", name=op.f('ck_users_id_user_name')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_users'))
    )
    op.create_index('uq_users_email', 'users', ['email'], unique=True)
    op.create_table('deployments',
    sa.Column('uid', sa.Uuid(), nullable=False),
    sa.Column('id', sa.String(length=40), nullable=False),
    sa.Column('group_id', sa.String(length=40), nullable=False),
    sa.Column('name', sa.String(length=200), nullable=False),
    sa.Column('spec', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
    sa.Column('stopped', sa.Boolean(), nullable=False),
    sa.Column('generation', sa.BigInteger(), nullable=False),
    sa.Column('revision', sa.BigInteger(), nullable=False),
    sa.Column('message', sa.String(), nullable=False),
    sa.Column('reserved_cpu', sa.Numeric(precision=18, scale=3), nullable=False),
    sa.Column('reserved_memory', sa.BigInteger(), nullable=False),
    sa.Column('reserved_gpu', sa.Numeric(precision=18, scale=3), nullable=False),
    sa.Column('created_by', sa.String(length=63), nullable=False),
    sa.Column('updated_by', sa.String(length=63), nullable=False),
    sa.Column('deleted_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('phase', sa.String(length=10), nullable=False),
    sa.Column('observed_generation', sa.BigInteger(), nullable=False),
    sa.Column('settled', sa.Boolean(), nullable=False),
    sa.Column('conditions', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
    sa.Column('version_status', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
    sa.Column('endpoints_generation', sa.BigInteger(), nullable=False),
    sa.Column('progressing_since', sa.DateTime(timezone=True), nullable=True),
    sa.Column('purged_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('updated_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.CheckConstraint("id ~ '^[a-z0-9]([a-z0-9-]*[a-z0-9])?$' AND length(id) <= 40", name=op.f('ck_deployments_id_dns_label')),
    sa.CheckConstraint("phase IN ('Deploying', 'Deployed', 'Failed', 'Stopping', 'Stopped')", name=op.f('ck_deployments_phase_known')),
    sa.CheckConstraint('reserved_cpu >= 0 AND reserved_memory >= 0 AND reserved_gpu >= 0', name=op.f('ck_deployments_reserved_not_negative')),
    sa.ForeignKeyConstraint(['group_id'], ['groups.id'], name=op.f('fk_deployments_group_id_groups')),
    sa.PrimaryKeyConstraint('uid', name=op.f('pk_deployments'))
    )
    op.create_index('ix_deployments_group_live', 'deployments', ['group_id', 'id'], unique=False, postgresql_where=sa.text('deleted_at IS NULL'))
    op.create_index('ix_deployments_unsettled', 'deployments', ['uid'], unique=False, postgresql_where=sa.text('observed_generation <> generation OR NOT settled'))
    op.create_index('ix_deployments_updated_live', 'deployments', ['updated_at', 'id'], unique=False, postgresql_where=sa.text('deleted_at IS NULL'))
    op.create_index('uq_deployments_id_live', 'deployments', ['id'], unique=True, postgresql_where=sa.text('deleted_at IS NULL'))
    op.create_table('members',
    sa.Column('group_id', sa.String(length=40), nullable=False),
    sa.Column('user_id', sa.String(length=63), nullable=False),
    sa.Column('permission', sa.String(length=10), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('updated_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.CheckConstraint("permission IN ('read', 'edit', 'manage')", name=op.f('ck_members_permission_known')),
    sa.ForeignKeyConstraint(['group_id'], ['groups.id'], name=op.f('fk_members_group_id_groups'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['user_id'], ['users.id'], name=op.f('fk_members_user_id_users'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('group_id', 'user_id', name=op.f('pk_members'))
    )
    op.create_index(op.f('ix_members_user_id'), 'members', ['user_id'], unique=False)
    op.create_table('models',
    sa.Column('id', sa.BigInteger(), sa.Identity(always=False), nullable=False),
    sa.Column('group_id', sa.String(length=40), nullable=False),
    sa.Column('name', sa.String(length=63), nullable=False),
    sa.Column('framework', sa.String(length=63), nullable=False),
    sa.Column('description', sa.String(), nullable=False),
    sa.Column('tags', postgresql.ARRAY(sa.TEXT()), nullable=False),
    sa.Column('latest', sa.BigInteger(), nullable=False),
    sa.Column('created_by', sa.String(length=63), nullable=False),
    sa.Column('version', sa.BigInteger(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('updated_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.CheckConstraint("name ~ '^[a-z0-9]([a-z0-9-]*[a-z0-9])?$' AND length(name) <= 63", name=op.f('ck_models_name_dns_label')),
    sa.ForeignKeyConstraint(['group_id'], ['groups.id'], name=op.f('fk_models_group_id_groups')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_models')),
    sa.UniqueConstraint('group_id', 'name', name=op.f('uq_models_group_id_name'))
    )
    op.create_index('ix_models_tags', 'models', ['tags'], unique=False, postgresql_using='gin')
    op.create_index(op.f('ix_models_updated_at_id'), 'models', ['updated_at', 'id'], unique=False)
    op.create_table('refresh_tokens',
    sa.Column('sha256', sa.LargeBinary(), nullable=False),
    sa.Column('family', sa.String(length=36), nullable=False),
    sa.Column('user_id', sa.String(length=63), nullable=False),
    sa.Column('expires_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('used_at', sa.DateTime(timezone=True), nullable=True),
    sa.ForeignKeyConstraint(['user_id'], ['users.id'], name=op.f('fk_refresh_tokens_user_id_users'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('sha256', name=op.f('pk_refresh_tokens'))
    )
    op.create_index(op.f('ix_refresh_tokens_expires_at'), 'refresh_tokens', ['expires_at'], unique=False)
    op.create_index(op.f('ix_refresh_tokens_family'), 'refresh_tokens', ['family'], unique=False)
    op.create_index(op.f('ix_refresh_tokens_user_id'), 'refresh_tokens', ['user_id'], unique=False)
    op.create_table('deployment_steps',
    sa.Column('id', sa.BigInteger(), sa.Identity(always=False), nullable=False),
    sa.Column('uid', sa.Uuid(), nullable=False),
    sa.Column('at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('step', sa.String(length=40), nullable=False),
    sa.Column('message', sa.String(), nullable=False),
    sa.ForeignKeyConstraint(['uid'], ['deployments.uid'], name=op.f('fk_deployment_steps_uid_deployments')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_deployment_steps'))
    )
    op.create_index(op.f('ix_deployment_steps_uid_id'), 'deployment_steps', ['uid', 'id'], unique=False)
    op.create_table('endpoint_clients',
    sa.Column('uid', sa.Uuid(), nullable=False),
    sa.Column('name', sa.String(length=63), nullable=False),
    sa.Column('sha1', sa.String(length=28), nullable=False),
    sa.Column('created_by', sa.String(length=63), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('expires_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('last_used_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('version', sa.BigInteger(), nullable=False),
    sa.CheckConstraint("name ~ '^[A-Za-z0-9.-]{1,63}$'", name=op.f('ck_endpoint_clients_name_allowed')),
    sa.ForeignKeyConstraint(['uid'], ['deployments.uid'], name=op.f('fk_endpoint_clients_uid_deployments')),
    sa.PrimaryKeyConstraint('uid', 'name', name=op.f('pk_endpoint_clients'))
    )
    op.create_index(op.f('ix_endpoint_clients_expires_at'), 'endpoint_clients', ['expires_at'], unique=False)
    op.create_table('model_versions',
    sa.Column('model_id', sa.BigInteger(), nullable=False),
    sa.Column('number', sa.BigInteger(), nullable=False),
    sa.Column('artifact', postgresql.JSONB(astext_type=sa.Text()), nullable=False),
    sa.Column('framework', sa.String(length=63), nullable=False),
    sa.Column('metrics', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
    sa.Column('parameters', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
    sa.Column('description', sa.String(), nullable=False),
    sa.Column('digest', sa.String(length=71), nullable=True),
    sa.Column('size', sa.BigInteger(), nullable=True),
    sa.Column('run', sa.String(length=200), nullable=True),
    sa.Column('created_by', sa.String(length=63), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.CheckConstraint('number >= 1', name=op.f('ck_model_versions_number_from_one')),
    sa.ForeignKeyConstraint(['model_id'], ['models.id'], name=op.f('fk_model_versions_model_id_models'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('model_id', 'number', name=op.f('pk_model_versions')),
    sa.UniqueConstraint('model_id', 'run', name=op.f('uq_model_versions_model_id_run'))
    )
    op.create_index(op.f('ix_model_versions_digest'), 'model_versions', ['digest'], unique=False)
    op.create_table('replicas',
    sa.Column('id', sa.String(length=63), nullable=False),
    sa.Column('uid', sa.Uuid(), nullable=False),
    sa.Column('version', sa.BigInteger(), nullable=False),
    sa.Column('template', sa.String(length=71), nullable=False),
    sa.Column('phase', sa.String(length=10), nullable=False),
    sa.Column('routable', sa.Boolean(), nullable=False),
    sa.Column('endpoints_generation', sa.BigInteger(), nullable=False),
    sa.Column('host', sa.String(length=255), nullable=True),
    sa.Column('port', sa.BigInteger(), nullable=True),
    sa.Column('restarts', sa.BigInteger(), nullable=False),
    sa.Column('started_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('failure', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
    sa.ForeignKeyConstraint(['uid'], ['deployments.uid'], name=op.f('fk_replicas_uid_deployments')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_replicas'))
    )
    op.create_index(op.f('ix_replicas_uid'), 'replicas', ['uid'], unique=False)
    op.create_table('revisions',
    sa.Column('uid', sa.Uuid(), nullable=False),
    sa.Column('number', sa.BigInteger(), nullable=False),
    sa.Column('at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('by', sa.String(length=63), nullable=False),
    sa.Column('action', sa.String(length=20), nullable=False),
    sa.Column('message', sa.String(), nullable=False),
    sa.Column('spec', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
    sa.Column('stopped', sa.Boolean(), nullable=False),
    sa.ForeignKeyConstraint(['uid'], ['deployments.uid'], name=op.f('fk_revisions_uid_deployments')),
    sa.PrimaryKeyConstraint('uid', 'number', name=op.f('pk_revisions'))
    )
    op.create_table('routes',
    sa.Column('uid', sa.Uuid(), nullable=False),
    sa.Column('generation', sa.BigInteger(), nullable=False),
    sa.Column('endpoints_generation', sa.BigInteger(), nullable=False),
    sa.Column('weights', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
    sa.Column('rejected', sa.String(), nullable=True),
    sa.Column('enforced_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.ForeignKeyConstraint(['uid'], ['deployments.uid'], name=op.f('fk_routes_uid_deployments')),
    sa.PrimaryKeyConstraint('uid', name=op.f('pk_routes'))
    )
    op.create_table('model_aliases',
    sa.Column('model_id', sa.BigInteger(), nullable=False),
    sa.Column('alias', sa.String(length=63), nullable=False),
    sa.Column('number', sa.BigInteger(), nullable=False),
    sa.CheckConstraint("alias ~ '^[a-z0-9]([a-z0-9-]*[a-z0-9])?$' AND length(alias) <= 63", name=op.f('ck_model_aliases_alias_dns_label')),
    sa.ForeignKeyConstraint(['model_id', 'number'], ['model_versions.model_id', 'model_versions.number'], name=op.f('fk_model_aliases_model_id_number_model_versions'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('model_id', 'alias', name=op.f('pk_model_aliases'))
    )
    op.create_table('model_curves',
    sa.Column('model_id', sa.BigInteger(), nullable=False),
    sa.Column('number', sa.BigInteger(), nullable=False),
    sa.Column('name', sa.String(length=100), nullable=False),
    sa.Column('points', postgresql.JSONB(astext_type=sa.Text()), nullable=False),
    sa.ForeignKeyConstraint(['model_id', 'number'], ['model_versions.model_id', 'model_versions.number'], name=op.f('fk_model_curves_model_id_number_model_versions'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('model_id', 'number', 'name', name=op.f('pk_model_curves'))
    )


def downgrade() -> None:
    op.drop_table('model_curves')
    op.drop_table('model_aliases')
    op.drop_table('routes')
    op.drop_table('revisions')
    op.drop_index(op.f('ix_replicas_uid'), table_name='replicas')
    op.drop_table('replicas')
    op.drop_index(op.f('ix_model_versions_digest'), table_name='model_versions')
    op.drop_table('model_versions')
    op.drop_index(op.f('ix_endpoint_clients_expires_at'), table_name='endpoint_clients')
    op.drop_table('endpoint_clients')
    op.drop_index(op.f('ix_deployment_steps_uid_id'), table_name='deployment_steps')
    op.drop_table('deployment_steps')
    op.drop_index(op.f('ix_refresh_tokens_user_id'), table_name='refresh_tokens')
    op.drop_index(op.f('ix_refresh_tokens_family'), table_name='refresh_tokens')
    op.drop_index(op.f('ix_refresh_tokens_expires_at'), table_name='refresh_tokens')
    op.drop_table('refresh_tokens')
    op.drop_index(op.f('ix_models_updated_at_id'), table_name='models')
    op.drop_index('ix_models_tags', table_name='models', postgresql_using='gin')
    op.drop_table('models')
    op.drop_index(op.f('ix_members_user_id'), table_name='members')
    op.drop_table('members')
    op.drop_index('uq_deployments_id_live', table_name='deployments', postgresql_where=sa.text('deleted_at IS NULL'))
    op.drop_index('ix_deployments_updated_live', table_name='deployments', postgresql_where=sa.text('deleted_at IS NULL'))
    op.drop_index('ix_deployments_unsettled', table_name='deployments', postgresql_where=sa.text('observed_generation <> generation OR NOT settled'))
    op.drop_index('ix_deployments_group_live', table_name='deployments', postgresql_where=sa.text('deleted_at IS NULL'))
    op.drop_table('deployments')
    op.drop_index('uq_users_email', table_name='users')
    op.drop_table('users')
    op.drop_table('signing_keys')
    op.drop_table('outbox')
    op.drop_table('leases')
    op.drop_table('instance_types')
    op.drop_index(op.f('ix_inbox_at'), table_name='inbox')
    op.drop_table('inbox')
    op.drop_index(op.f('ix_idempotent_requests_at'), table_name='idempotent_requests')
    op.drop_table('idempotent_requests')
    op.drop_index('uq_groups_personal_of', table_name='groups')
    op.drop_table('groups')
    op.drop_table('dead_letters')
    op.drop_index('uq_bus_messages_event', table_name='bus_messages')
    op.drop_index(op.f('ix_bus_messages_topic_partition_offset'), table_name='bus_messages')
    op.drop_index(op.f('ix_bus_messages_at'), table_name='bus_messages')
    op.drop_table('bus_messages')
    op.drop_table('bus_cursors')
    op.drop_table('blobs')
