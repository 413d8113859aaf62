"""Written by the gateway: personal access tokens. `last_used_at` shared.http writes, on behalf of every service."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Index, String, func
from sqlalchemy.orm import Mapped, mapped_column

from shared.schema.base import Base


class AccessToken(Base):
    """Only the SHA-256 of a token is kept; it has 256 random bits. It goes with its user."""

    __tablename__ = "access_tokens"
    __table_args__ = (
        Index("uq_access_tokens_sha256", "sha256", unique=True),
        Index("uq_access_tokens_user_id_name", "user_id", "name", unique=True),
        Index(None, "expires_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(63))
    sha256: Mapped[bytes]
    scopes: Mapped[list[str]]
    expires_at: Mapped[datetime]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    last_used_at: Mapped[datetime | None]
