"""Written by shared.reconcile on behalf of every service: who works on which key."""

from datetime import datetime

from sqlalchemy import Index, Sequence, String
from sqlalchemy.orm import Mapped, mapped_column

from shared.schema.base import Base

LEASE_TOKENS = Sequence("lease_tokens", metadata=Base.metadata)


class Lease(Base):
    """`token` rises with each claim; a write that carries an older one is refused.

    Tokens come from one sequence, so that they rise even after a row was removed and made anew.
    """

    __tablename__ = "leases"
    __table_args__ = (Index(None, "expires_at"),)

    name: Mapped[str] = mapped_column(String(200), primary_key=True)
    token: Mapped[int]
    owner: Mapped[str] = mapped_column(String(100))
    expires_at: Mapped[datetime]
