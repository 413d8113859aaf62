"""Written by the gateway: who is signed in, and the tokens that renew a sign-in or fetch it."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Index, String, func
from sqlalchemy.orm import Mapped, mapped_column

from shared.schema.base import Base


class SignIn(Base):
    """Its access tokens name it and are good for as long as the row is there: to sign out is to remove it.

    `method` is `password`, `client_credentials` or the name of an identity provider. At `expires_at` the last token of
    it has expired; each renewal puts that off, though never beyond `ends_at`.
    """

    __tablename__ = "sign_ins"
    __table_args__ = (Index(None, "user_id", "id"), Index(None, "expires_at"))

    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    method: Mapped[str] = mapped_column(String(40))
    address: Mapped[str] = mapped_column(String(64))
    user_agent: Mapped[str] = mapped_column(String(200))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    renewed_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]
    ends_at: Mapped[datetime | None]


class RefreshToken(Base):
    """Only the SHA-256 of a token is kept. One used twice betrays a theft: its sign-in is then ended."""

    __tablename__ = "refresh_tokens"
    __table_args__ = (Index(None, "sign_in_id"), Index(None, "expires_at"))

    sha256: Mapped[bytes] = mapped_column(primary_key=True)
    sign_in_id: Mapped[UUID] = mapped_column(ForeignKey("sign_ins.id", ondelete="CASCADE"))
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


class SignInCode(Base):
    """What a browser brings back to the program that sent it to sign in; fetches that sign-in's tokens, once.

    Only the SHA-256 of a code is kept. `challenge` is the program's (RFC 7636, S256).
    """

    __tablename__ = "sign_in_codes"
    __table_args__ = (Index(None, "sign_in_id"), Index(None, "expires_at"))

    sha256: Mapped[bytes] = mapped_column(primary_key=True)
    sign_in_id: Mapped[UUID] = mapped_column(ForeignKey("sign_ins.id", ondelete="CASCADE"))
    challenge: Mapped[str] = mapped_column(String(43))
    redirect_uri: Mapped[str] = mapped_column(String(500))
    expires_at: Mapped[datetime]
