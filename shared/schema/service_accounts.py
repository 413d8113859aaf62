"""Written by the gateway: service accounts, users that sign in with client credentials instead of a password."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from shared.schema.base import Base, Stamped


class ServiceAccount(Stamped, Base):
    """Beside its row in `users`, and goes with that. Only the SHA-256 of a secret is kept; it has 256 random bits."""

    __tablename__ = "service_accounts"
    __table_args__ = (CheckConstraint("(previous_sha256 IS NULL) = (previous_until IS NULL)", name="overlap_whole"),)

    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    description: Mapped[str] = mapped_column(default="")
    sha256: Mapped[bytes]
    # The secret before, which is good for a while longer.
    previous_sha256: Mapped[bytes | None]
    previous_until: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    created_by: Mapped[str] = mapped_column(String(63))
    version: Mapped[int] = mapped_column(default=1)
