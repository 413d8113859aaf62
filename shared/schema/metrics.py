"""Written by the metrics service: what Envoy has counted, as samples, and how far these are rolled up.

Samples are append-only and have no identity: several rows about the same thing and time add up. They bear no foreign
key either: a deployment's row is kept for good, and checking it would lock that row for each sample.
"""

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Index,
    Integer,
    SmallInteger,
    String,
    Table,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from shared.schema.base import Base

request_samples = Table(
    "request_samples",
    Base.metadata,
    Column("uid", Uuid, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("version", Integer, nullable=False),
    Column("resolution", SmallInteger, nullable=False),
    Column("code", SmallInteger, nullable=False),
    Column("client", String(63), nullable=False),
    CheckConstraint("count > 0", name="count_positive"),
    Index("ix_request_samples_uid", "uid", "resolution", "at"),
    Index("ix_request_samples_at", "resolution", "at"),
    Index("ix_request_samples_client", "uid", "client", "at", postgresql_where=text("client <> ''")),
    comment="requests of a deployment in the `resolution` seconds from `at`; version 0, client '': none",
)

latency_samples = Table(
    "latency_samples",
    Base.metadata,
    Column("uid", Uuid, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("version", Integer, nullable=False),
    Column("resolution", SmallInteger, nullable=False),
    Column("code", SmallInteger, nullable=False),
    Column("bins", ARRAY(SmallInteger), nullable=False),
    Column("counts", ARRAY(BigInteger), nullable=False),
    CheckConstraint("cardinality(bins) = cardinality(counts) AND cardinality(bins) > 0", name="bins_and_counts"),
    Index("ix_latency_samples_uid", "uid", "resolution", "at"),
    Index("ix_latency_samples_at", "resolution", "at"),
    comment="their latencies in microseconds as a sparse histogram: `counts` of the circllhist `bins`",
)


class Rollup(Base):
    """Samples of this resolution (seconds; 0: totals since ever) hold everything before `until`, and nothing after."""

    __tablename__ = "rollups"

    resolution: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    until: Mapped[datetime]


class ScrapeSource(Base):
    """An Envoy, by the address of its admin. `reading` is the answer whose counts are in the samples already, gzipped;
    it is one with the `incarnation` of the process that gave it, since another one counts from zero."""

    __tablename__ = "scrape_sources"

    url: Mapped[str] = mapped_column(String(500), primary_key=True)
    incarnation: Mapped[str] = mapped_column(String(40))
    reading: Mapped[bytes]
    scraped_at: Mapped[datetime]
