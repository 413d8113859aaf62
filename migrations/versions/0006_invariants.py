"""More invariants held by the database, and fencing tokens from a sequence."""

from alembic import op

revision = '0006'
down_revision = '0005'
branch_labels = None
depends_on = None

CHECKS = (
    ('deployments', 'counters_in_order',
     'generation >= 1 AND revision >= 1 AND observed_generation BETWEEN 0 AND generation AND endpoints_generation >= 0'),
    ('deployments', 'purged_after_deleted', 'purged_at IS NULL OR deleted_at IS NOT NULL'),
    ('revisions', 'number_from_one', 'number >= 1'),
    ('replicas', 'phase_known', "phase IN ('Starting', 'Ready', 'Unready', 'Draining', 'Failed', 'Ended')"),
    ('replicas', 'routable_has_address', 'NOT routable OR (host IS NOT NULL AND port IS NOT NULL)'),
    ('replicas', 'port_in_range', 'port BETWEEN 1 AND 65535'),
    ('replicas', 'restarts_not_negative', 'restarts >= 0'),
    ('routes', 'generations_not_negative', 'generation >= 0 AND endpoints_generation >= 0'),
    ('endpoint_clients', 'sha1_base64', "sha1 ~ '^[A-Za-z0-9+/]{27}=$'"),
    ('models', 'latest_not_negative', 'latest >= 0'),
    ('model_versions', 'size_not_negative', 'size >= 0'),
    ('blobs', 'digest_sha256', "digest ~ '^sha256:[0-9a-f]{64}$'"),
    ('blobs', 'size_not_negative', 'size >= 0'),
    ('signing_keys', 'retires_after_created', 'retires_at > created_at'),
    ('idempotent_requests', 'answer_with_status', '(status IS NULL) = (answer IS NULL)'),
    ('bus_messages', 'offset_from_one', '"offset" >= 1'),
    ('bus_cursors', 'offset_not_negative', '"offset" >= 0'),
)


def upgrade() -> None:
    for table, name, condition in CHECKS:
        op.create_check_constraint(op.f(f'ck_{table}_{name}'), table, condition)
    op.execute('CREATE SEQUENCE lease_tokens')
    op.execute("SELECT setval('lease_tokens', (SELECT coalesce(max(token), 0) + 1 FROM leases))")
    op.create_index(op.f('ix_leases_expires_at'), 'leases', ['expires_at'])


def downgrade() -> None:
    op.drop_index(op.f('ix_leases_expires_at'), table_name='leases')
    op.execute('DROP SEQUENCE lease_tokens')
    for table, name, _ in reversed(CHECKS):
        op.drop_constraint(op.f(f'ck_{table}_{name}'), table, type_='check')
