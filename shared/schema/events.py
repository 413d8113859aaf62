"""Written by shared.outbox and shared.bus on behalf of every service: events on their way."""

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, Identity, Index, SmallInteger, String, func, text
from sqlalchemy.orm import Mapped, mapped_column

from shared.schema.base import Base


class OutboxEntry(Base):
    """An event in the transaction of its change; the relay publishes and removes it."""

    __tablename__ = "outbox"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    topic: Mapped[str] = mapped_column(String(100))
    key: Mapped[str] = mapped_column(String(200))
    event: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class InboxEntry(Base):
    """An event that a consumer group has applied, so that a second delivery changes nothing."""

    __tablename__ = "inbox"
    __table_args__ = (Index(None, "at"),)

    consumer: Mapped[str] = mapped_column(String(100), primary_key=True)
    event_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=func.now())


class BusMessage(Base):
    """The PostgreSQL bus: one row an event. Offsets of a topic have no gaps: one publisher at a time gives them.

    `only_for` makes it a replay, which all consumers but that one pass over.
    """

    __tablename__ = "bus_messages"
    __table_args__ = (
        CheckConstraint('"offset" >= 1', name="offset_from_one"),
        Index("uq_bus_messages_event", "topic", "event_id", unique=True, postgresql_where=text("only_for IS NULL")),
        Index(None, "topic", "partition", "offset"),
        Index(None, "at"),
    )

    topic: Mapped[str] = mapped_column(String(100), primary_key=True)
    offset: Mapped[int] = mapped_column(primary_key=True)
    partition: Mapped[int] = mapped_column(SmallInteger)
    key: Mapped[str] = mapped_column(String(200))
    event_id: Mapped[str] = mapped_column(String(36))
    event: Mapped[dict[str, Any]]
    only_for: Mapped[str | None] = mapped_column(String(100))
    at: Mapped[datetime] = mapped_column(server_default=func.now())


class BusHead(Base):
    """The newest offset of a partition: whether there is news costs no look at the messages."""

    __tablename__ = "bus_heads"
    __table_args__ = (CheckConstraint('"offset" >= 1', name="offset_from_one"),)

    topic: Mapped[str] = mapped_column(String(100), primary_key=True)
    partition: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    offset: Mapped[int]


class BusCursor(Base):
    """Where a consumer group stands in one partition, and who works on it now (`fence` rises with each claim)."""

    __tablename__ = "bus_cursors"
    __table_args__ = (CheckConstraint('"offset" >= 0', name="offset_not_negative"),)

    consumer: Mapped[str] = mapped_column(String(100), primary_key=True)
    topic: Mapped[str] = mapped_column(String(100), primary_key=True)
    partition: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    offset: Mapped[int] = mapped_column(default=0)
    fence: Mapped[int] = mapped_column(default=0)
    leased_until: Mapped[datetime | None]


class DeadLetter(Base):
    """An event that a consumer could not handle, with the cause; replayable."""

    __tablename__ = "dead_letters"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    consumer: Mapped[str] = mapped_column(String(100))
    topic: Mapped[str] = mapped_column(String(100))
    key: Mapped[str] = mapped_column(String(200))
    event: Mapped[dict[str, Any]]
    cause: Mapped[str]
    at: Mapped[datetime] = mapped_column(server_default=func.now())
