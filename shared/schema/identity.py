"""Written by the gateway: users, who they are elsewhere, and the keys that sign access tokens."""

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, String, func
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


class FormerUser(Base):
    """A name that was somebody's, which still stands on what they made and on their personal group. Only an
    administrator gives it to somebody again."""

    __tablename__ = "former_users"

    id: Mapped[str] = mapped_column(String(63), primary_key=True)
    removed_at: Mapped[datetime] = mapped_column(server_default=func.now())


class SigningKey(Base):
    """An ES256 key pair; the private half is sealed. Retired keys verify until the last token they signed is gone."""

    __tablename__ = "signing_keys"
    __table_args__ = (CheckConstraint("retires_at > created_at", name="retires_after_created"),)

    kid: Mapped[str] = mapped_column(String(64), primary_key=True)
    public_jwk: Mapped[dict[str, Any]]
    private_sealed: Mapped[bytes]
    created_at: Mapped[datetime]
    retires_at: Mapped[datetime]


class Identity(Base):
    """Who a user is to an identity provider. `roles` is what the provider's claims said of them at the last sign-in, as
    the settings translate it: `risk:edit`, `admin`. The registry makes memberships of it."""

    __tablename__ = "identities"
    __table_args__ = (Index(None, "user_id"),)

    issuer: Mapped[str] = mapped_column(String(500), primary_key=True)
    subject: Mapped[str] = mapped_column(String(255), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    provider: Mapped[str] = mapped_column(String(40))
    roles: Mapped[list[str]]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
