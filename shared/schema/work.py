"""Written by shared.reconcile on behalf of every service: who works on which key."""

from datetime import datetime

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from shared.schema.base import Base


class Lease(Base):
    """`token` rises with each claim; a write that carries an older one is refused."""

    __tablename__ = "leases"

    name: Mapped[str] = mapped_column(String(200), primary_key=True)
    token: Mapped[int] = mapped_column(default=0)
    owner: Mapped[str] = mapped_column(String(100))
    expires_at: Mapped[datetime]
