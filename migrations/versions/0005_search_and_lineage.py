"""Models by words; which blobs a version consists of and who uploaded them; which live deployments stand on a version."""

from alembic import op
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

revision = '0005'
down_revision = '0004'
branch_labels = None
depends_on = None

WORDS = (
    "to_tsvector('simple'::regconfig,"
    " regexp_replace(name || ' ' || framework || ' ' || description, '[^[:alnum:]]+', ' ', 'g'))"
    " || array_to_tsvector(tags)"
)


def upgrade() -> None:
    op.add_column('models', sa.Column('search', postgresql.TSVECTOR(), sa.Computed(WORDS, persisted=True), nullable=False))
    op.create_index('ix_models_search', 'models', ['search'], postgresql_using='gin')
    op.create_index('ix_models_created_by_group_id_name', 'models', ['created_by', 'group_id', 'name'])
    op.create_index('ix_models_framework_group_id_name', 'models', ['framework', 'group_id', 'name'])

    op.add_column('model_versions', sa.Column('digests', postgresql.ARRAY(sa.TEXT()), server_default='{}', nullable=False))
    op.execute("UPDATE model_versions SET digests = ARRAY[digest] WHERE digest IS NOT NULL")
    op.alter_column('model_versions', 'digests', server_default=None)
    op.create_index('ix_model_versions_digests', 'model_versions', ['digests'], postgresql_using='gin')

    op.create_table(
        'blob_uploads',
        sa.Column('digest', sa.String(length=71), nullable=False),
        sa.Column('user_id', sa.String(length=63), nullable=False),
        sa.Column('at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
        sa.ForeignKeyConstraint(['digest'], ['blobs.digest'], name=op.f('fk_blob_uploads_digest_blobs'), ondelete='CASCADE'),
        sa.PrimaryKeyConstraint('digest', 'user_id', name=op.f('pk_blob_uploads')),
    )
    op.execute('INSERT INTO blob_uploads (digest, user_id, at) SELECT digest, created_by, created_at FROM blobs')

    op.create_index(
        'ix_deployments_versions_live',
        'deployments',
        [sa.text("(spec -> 'versions') jsonb_path_ops")],
        postgresql_using='gin',
        postgresql_where=sa.text('deleted_at IS NULL'),
    )


def downgrade() -> None:
    op.drop_index('ix_deployments_versions_live', table_name='deployments')
    op.drop_table('blob_uploads')
    op.drop_index('ix_model_versions_digests', table_name='model_versions')
    op.drop_column('model_versions', 'digests')
    op.drop_index('ix_models_framework_group_id_name', table_name='models')
    op.drop_index('ix_models_created_by_group_id_name', table_name='models')
    op.drop_index('ix_models_search', table_name='models')
    op.drop_column('models', 'search')
