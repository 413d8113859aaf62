"""Written by the gateway: users, the keys that sign access tokens, refresh tokens."""

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from shared.schema.base import Base, Stamped


class User(Stamped, Base):
    """`password_hash` is argon2id, or None where the user signs in elsewhere."""

    __tablename__ = "users"
    __table_args__ = (
        CheckConstraint("id ~ '^[a-z0-9][a-z0-9._-]*$' AND length(id) <= 63", name="id_user_name"),
        Index("uq_users_email", "email", unique=True),
    )

    id: Mapped[str] = mapped_column(String(63), primary_key=True)
    display_name: Mapped[str] = mapped_column(String(200), default="")
    email: Mapped[str | None] = mapped_column(String(320))
    admin: Mapped[bool] = mapped_column(default=False)
    disabled: Mapped[bool] = mapped_column(default=False)
    password_hash: Mapped[str | None] = mapped_column(String(200))
    version: Mapped[int] = mapped_column(default=1)


class SigningKey(Base):
    """An ES256 key pair; the private half is sealed. Retired keys verify until the last token they signed is gone."""

    __tablename__ = "signing_keys"
    __table_args__ = (CheckConstraint("retires_at > created_at", name="retires_after_created"),)

    kid: Mapped[str] = mapped_column(String(64), primary_key=True)
    public_jwk: Mapped[dict[str, Any]]
    private_sealed: Mapped[bytes]
    created_at: Mapped[datetime]
    retires_at: Mapped[datetime]


class RefreshToken(Base):
    """Only the SHA-256 of a token is kept. One used twice betrays a theft: its whole family is then removed."""

    __tablename__ = "refresh_tokens"
    __table_args__ = (Index(None, "family"), Index(None, "user_id"), Index(None, "expires_at"))

    sha256: Mapped[bytes] = mapped_column(primary_key=True)
    family: Mapped[str] = mapped_column(String(36))
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]
