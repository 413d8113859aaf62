"""Names of users who were removed, so that nobody whom an identity provider brings takes one over."""

import sqlalchemy as sa
from alembic import op

revision = '0018'
down_revision = '0017'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        'former_users',
        sa.Column('id', sa.String(length=63), nullable=False),
        sa.Column('removed_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_former_users')),
    )
    op.execute("""
        INSERT INTO former_users (id)
        SELECT name FROM (
            SELECT personal_of FROM groups UNION SELECT created_by FROM deployments UNION SELECT created_by FROM models
            UNION SELECT created_by FROM model_versions UNION SELECT user_id FROM audit_entries
        ) AS known (name)
        WHERE name IS NOT NULL AND NOT EXISTS (SELECT FROM users WHERE users.id = name)
    """)


def downgrade() -> None:
    op.drop_table('former_users')
