"""Written by shared.http on behalf of every service: POSTs that carried an Idempotency-Key."""

from datetime import datetime

from sqlalchemy import CheckConstraint, Index, SmallInteger, String, func
from sqlalchemy.orm import Mapped, mapped_column

from shared.schema.base import Base


class IdempotentRequest(Base):
    """`answer` is sealed, since an answer may show a token once. Rows are kept for a day."""

    __tablename__ = "idempotent_requests"
    __table_args__ = (
        CheckConstraint("(status IS NULL) = (answer IS NULL)", name="answer_with_status"),
        Index(None, "at"),
    )

    caller: Mapped[str] = mapped_column(String(63), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    request_sha256: Mapped[bytes]
    status: Mapped[int | None] = mapped_column(SmallInteger)
    answer: Mapped[bytes | None]
    at: Mapped[datetime] = mapped_column(server_default=func.now())
