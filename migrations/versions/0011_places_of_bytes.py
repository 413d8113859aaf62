"""Where uploaded bytes lie, uploads that can be resumed, which bytes revisions name; the newest models of a group, a
person, a framework."""

import sqlalchemy as sa
from alembic import op

revision = '0011'
down_revision = '0010'
branch_labels = None
depends_on = None

NEWEST = ('group_id', 'created_by', 'framework')


def upgrade() -> None:
    op.add_column('blobs', sa.Column('place', sa.String(length=200), nullable=True))
    op.execute("UPDATE blobs SET place = 'sha256/' || substr(digest, 8, 2) || '/' || substr(digest, 8)")
    op.create_table(
        'uploads',
        sa.Column('id', sa.Uuid(), nullable=False),
        sa.Column('user_id', sa.String(length=63), nullable=False),
        sa.Column('size', sa.BigInteger(), nullable=True),
        sa.Column('digest', sa.String(length=71), nullable=True),
        sa.Column('stored', sa.String(length=71), nullable=True),
        sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
        sa.Column('touched_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
        sa.CheckConstraint('size >= 0', name=op.f('ck_uploads_size_not_negative')),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_uploads')),
    )
    op.create_index(
        'ix_revisions_versions',
        'revisions',
        [sa.text("(spec -> 'versions') jsonb_path_ops")],
        postgresql_using='gin',
    )
    for column in NEWEST:
        op.create_index(op.f(f'ix_models_{column}_updated_at_id'), 'models', [column, 'updated_at', 'id'])


def downgrade() -> None:
    for column in NEWEST:
        op.drop_index(op.f(f'ix_models_{column}_updated_at_id'), table_name='models')
    op.drop_index('ix_revisions_versions', table_name='revisions')
    op.drop_table('uploads')
    op.drop_column('blobs', 'place')
