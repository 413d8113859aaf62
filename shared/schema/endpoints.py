"""Written by the gateway: the clients of private endpoints, which Envoys there are, what they have acknowledged."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, String, func, text
from sqlalchemy.orm import Mapped, mapped_column

from shared.schema.base import Base


class EndpointClient(Base):
    """A caller of one private endpoint. Only the hash that Envoy checks is kept (SHA-1 of 256 random bits, base64).

    After a rotation with an overlap the token before is let in too until `previous_until`; `mark` is what the new one's
    random part begins with, to tell the two apart without knowing either.
    """

    __tablename__ = "endpoint_clients"
    __table_args__ = (
        CheckConstraint("name ~ '^[A-Za-z0-9.-]{1,63}$'", name="name_allowed"),
        CheckConstraint("sha1 ~ '^[A-Za-z0-9+/]{27}=$'", name="sha1_base64"),
        CheckConstraint("previous_sha1 ~ '^[A-Za-z0-9+/]{27}=$'", name="previous_sha1_base64"),
        CheckConstraint("num_nulls(previous_sha1, previous_until, mark) IN (0, 3)", name="overlap_whole"),
        Index(None, "expires_at"),
    )

    uid: Mapped[UUID] = mapped_column(ForeignKey("deployments.uid"), primary_key=True)
    name: Mapped[str] = mapped_column(String(63), primary_key=True)
    sha1: Mapped[str] = mapped_column(String(28))
    created_by: Mapped[str] = mapped_column(String(63))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime | None]
    previous_sha1: Mapped[str | None] = mapped_column(String(28))
    previous_until: Mapped[datetime | None]
    mark: Mapped[str | None] = mapped_column(String(20))
    version: Mapped[int] = mapped_column(default=1)


class Envoy(Base):
    """One that routes, and the gateway that knows what by: the one that has brought it up to date. While it is here it
    counts, connected or not; whoever has not been heard of for long enough is removed."""

    __tablename__ = "envoys"

    node: Mapped[str] = mapped_column(primary_key=True)
    gateway: Mapped[str] = mapped_column(String(40))
    seen_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Route(Base):
    """What every Envoy has acknowledged: spec generation, replica set, weights in effect.

    `rejected` holds Envoy's words when it refused the configuration; the last good one then stays in force. `acks` is
    what each gateway says of its own Envoys; the other columns are what all gateways with an Envoy say together, but
    for `clients_generation`, which counts the changes to the clients.
    """

    __tablename__ = "routes"
    __table_args__ = (
        CheckConstraint("generation >= 0 AND endpoints_generation >= 0", name="generations_not_negative"),
    )

    uid: Mapped[UUID] = mapped_column(ForeignKey("deployments.uid"), primary_key=True)
    generation: Mapped[int] = mapped_column(default=0)
    endpoints_generation: Mapped[int] = mapped_column(default=0)
    weights: Mapped[dict[str, Any]] = mapped_column(default=dict)
    rejected: Mapped[str | None]
    enforced_at: Mapped[datetime] = mapped_column(server_default=func.now())
    acks: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default=text("'{}'"))
    clients_generation: Mapped[int] = mapped_column(default=0, server_default=text("0"))
