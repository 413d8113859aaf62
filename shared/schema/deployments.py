"""Written by the deployer: deployments, their revisions, replicas and step log.

Of a deployment, API commands write the first half of the columns and the reconciler the second: no column has two
writers. A row stays after deletion, and its revisions with it, so that history is kept for good.
"""

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Identity, Index, String, func, literal_column, text
from sqlalchemy.orm import Mapped, mapped_column

from shared.schema.base import Base, Stamped, dns_label, one_of


class Deployment(Stamped, Base):
    __tablename__ = "deployments"
    __table_args__ = (
        dns_label("id"),
        one_of("phase", "Deploying", "Deployed", "Failed", "Stopping", "Stopped"),
        CheckConstraint(
            "reserved_cpu >= 0 AND reserved_memory >= 0 AND reserved_gpu >= 0", name="reserved_not_negative"
        ),
        CheckConstraint(
            "generation >= 1 AND revision >= 1 AND observed_generation BETWEEN 0 AND generation"
            " AND endpoints_generation >= 0",
            name="counters_in_order",
        ),
        CheckConstraint("purged_at IS NULL OR deleted_at IS NOT NULL", name="purged_after_deleted"),
        Index("uq_deployments_id_live", "id", unique=True, postgresql_where=text("deleted_at IS NULL")),
        # Admission sums a group's reservations; lists page by id or by time within groups.
        Index("ix_deployments_group_live", "group_id", "id", postgresql_where=text("deleted_at IS NULL")),
        Index("ix_deployments_updated_live", "updated_at", "id", postgresql_where=text("deleted_at IS NULL")),
        Index("ix_deployments_name_live", "name", "id", postgresql_where=text("deleted_at IS NULL")),
        Index("ix_deployments_phase_live", "phase", "id", postgresql_where=text("deleted_at IS NULL")),
        Index("ix_deployments_mine_live", "created_by", "id", postgresql_where=text("deleted_at IS NULL")),
        # Keywords anywhere in the id or the name, in any case.
        Index(
            "ix_deployments_words_live",
            "id",
            "name",
            postgresql_using="gin",
            postgresql_ops={"id": "gin_trgm_ops", "name": "gin_trgm_ops"},
            postgresql_where=text("deleted_at IS NULL"),
        ),
        # A watcher that comes back asks what has changed meanwhile, deletions included.
        Index("ix_deployments_status_at", "status_at"),
        Index("ix_deployments_updated_at", "updated_at"),
        # Lineage: which of the live ones stand on a model version or an instance type.
        Index(
            "ix_deployments_versions_live",
            literal_column("(spec -> 'versions')").label("versions"),
            postgresql_using="gin",
            postgresql_ops={"versions": "jsonb_path_ops"},
            postgresql_where=text("deleted_at IS NULL"),
        ),
        # What routes may still have to do with: the live ones, and the deleted ones that have not been cleared away.
        Index("ix_deployments_unpurged", "id", postgresql_where=text("purged_at IS NULL")),
        # The resync scan: what the reconciler has not settled yet.
        Index(
            "ix_deployments_unsettled",
            "uid",
            postgresql_where=text("observed_generation <> generation OR NOT settled"),
        ),
    )

    uid: Mapped[UUID] = mapped_column(primary_key=True)

    # Written by API commands.
    id: Mapped[str] = mapped_column(String(40))
    group_id: Mapped[str] = mapped_column(ForeignKey("groups.id"))
    name: Mapped[str] = mapped_column(String(200))
    spec: Mapped[dict[str, Any]]
    stopped: Mapped[bool] = mapped_column(default=False)
    generation: Mapped[int] = mapped_column(default=1)
    revision: Mapped[int] = mapped_column(default=1)
    # The highest version number ever given: a number is never used again for something new.
    last_version: Mapped[int] = mapped_column(default=1)
    message: Mapped[str] = mapped_column(default="")
    reserved_cpu: Mapped[Decimal] = mapped_column(default=Decimal(0))
    reserved_memory: Mapped[int] = mapped_column(default=0)
    reserved_gpu: Mapped[Decimal] = mapped_column(default=Decimal(0))
    created_by: Mapped[str] = mapped_column(String(63))
    updated_by: Mapped[str] = mapped_column(String(63))
    deleted_at: Mapped[datetime | None]

    # Written by the reconciler.
    phase: Mapped[str] = mapped_column(String(10), default="Deploying")
    observed_generation: Mapped[int] = mapped_column(default=0)
    settled: Mapped[bool] = mapped_column(default=False)
    conditions: Mapped[list[dict[str, Any]]] = mapped_column(default=list)
    version_status: Mapped[list[dict[str, Any]]] = mapped_column(default=list)
    # When it last wrote; with `updated_at` and the route's `enforced_at` it says whether a watcher has seen this state.
    status_at: Mapped[datetime] = mapped_column(server_default=func.now())
    # Rises whenever the set of replicas that may be sent requests changes; the gateway reports which one Envoy has.
    endpoints_generation: Mapped[int] = mapped_column(default=0)
    # When the present rollout began: the progress deadline counts from here.
    progressing_since: Mapped[datetime | None]
    purged_at: Mapped[datetime | None]


class Revision(Base):
    """One accepted change: immutable, numbered from 1 within its deployment."""

    __tablename__ = "revisions"
    __table_args__ = (
        CheckConstraint("number >= 1", name="number_from_one"),
        # Which bytes some revision names: the registry keeps these, since one may roll back to any.
        Index(
            "ix_revisions_versions",
            literal_column("(spec -> 'versions')").label("versions"),
            postgresql_using="gin",
            postgresql_ops={"versions": "jsonb_path_ops"},
        ),
    )

    uid: Mapped[UUID] = mapped_column(ForeignKey("deployments.uid"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=func.now())
    by: Mapped[str] = mapped_column(String(63))
    action: Mapped[str] = mapped_column(String(20))
    message: Mapped[str] = mapped_column(default="")
    spec: Mapped[dict[str, Any]]
    stopped: Mapped[bool]


class Replica(Base):
    """What the platform said last. `endpoints_generation` is the deployment's when `routable` last changed: a replica
    that is not routable any more may be ended once Envoy has acknowledged that generation."""

    __tablename__ = "replicas"
    __table_args__ = (
        one_of("phase", "Starting", "Ready", "Unready", "Draining", "Failed", "Ended"),
        CheckConstraint("NOT routable OR (host IS NOT NULL AND port IS NOT NULL)", name="routable_has_address"),
        CheckConstraint("port BETWEEN 1 AND 65535", name="port_in_range"),
        CheckConstraint("restarts >= 0", name="restarts_not_negative"),
        Index(None, "uid"),
    )

    id: Mapped[str] = mapped_column(String(63), primary_key=True)
    uid: Mapped[UUID] = mapped_column(ForeignKey("deployments.uid"))
    version: Mapped[int]
    template: Mapped[str] = mapped_column(String(71))
    phase: Mapped[str] = mapped_column(String(10))
    routable: Mapped[bool] = mapped_column(default=False)
    endpoints_generation: Mapped[int] = mapped_column(default=0)
    host: Mapped[str | None] = mapped_column(String(255))
    port: Mapped[int | None]
    restarts: Mapped[int] = mapped_column(default=0)
    started_at: Mapped[datetime | None]
    failure: Mapped[dict[str, Any] | None]


class DeploymentStep(Base):
    """The deployment log: what the platform did, step by step."""

    __tablename__ = "deployment_steps"
    __table_args__ = (Index(None, "uid", "id"),)

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    uid: Mapped[UUID] = mapped_column(ForeignKey("deployments.uid"))
    at: Mapped[datetime] = mapped_column(server_default=func.now())
    step: Mapped[str] = mapped_column(String(40))
    message: Mapped[str]
