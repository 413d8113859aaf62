"""Written by shared.http on behalf of every service: the audit log. Its chain is written by the gateway's sealer.

The database refuses any other UPDATE, and DELETE and TRUNCATE altogether (triggers of migration 0013); that a line was
altered or removed nevertheless, by a superuser say, the chain shows.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Identity, Index, String, func, text
from sqlalchemy.orm import Mapped, mapped_column

from shared.schema.base import Base, one_of


class AuditEntry(Base):
    """A change that was made, in its transaction, or an attempt that was denied.

    `position` counts without gaps in the order of the chain; both halves of it are empty until the entry is sealed.
    """

    __tablename__ = "audit_entries"
    __table_args__ = (
        one_of("outcome", "done", "denied"),
        CheckConstraint("(position IS NULL) = (hash IS NULL)", name="position_with_hash"),
        Index("uq_audit_entries_position", "position", unique=True),
        Index("ix_audit_entries_unsealed", "id", postgresql_where=text("position IS NULL")),
        Index(None, "at", "id"),
        Index(None, "user_id", "at", "id"),
        Index(None, "group_id", "at", "id"),
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    service: Mapped[str] = mapped_column(String(20))
    # No foreign keys: what was done stays on record when the user or the group has gone.
    user_id: Mapped[str | None] = mapped_column(String(63))
    group_id: Mapped[str | None] = mapped_column(String(40))
    token: Mapped[UUID | None]
    action: Mapped[str] = mapped_column(String(100))
    method: Mapped[str] = mapped_column(String(10))
    path: Mapped[str] = mapped_column(String(1000))
    outcome: Mapped[str] = mapped_column(String(10))
    status: Mapped[int]
    code: Mapped[str | None] = mapped_column(String(100))
    request_id: Mapped[str] = mapped_column(String(128))
    address: Mapped[str] = mapped_column(String(64))
    changes: Mapped[list[dict[str, Any]]]
    position: Mapped[int | None]
    hash: Mapped[str | None] = mapped_column(String(64))
