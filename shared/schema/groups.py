"""Written by the registry: groups, their members and quotas."""

from decimal import Decimal

from sqlalchemy import CheckConstraint, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from shared.schema.base import Base, Stamped, dns_label, one_of


class Group(Stamped, Base):
    """A quota of None is no limit. `version` is what the ETag shows."""

    __tablename__ = "groups"
    __table_args__ = (
        dns_label("id"),
        CheckConstraint(
            "coalesce(quota_cpu, 0) >= 0 AND coalesce(quota_memory, 0) >= 0 AND coalesce(quota_gpu, 0) >= 0"
            " AND coalesce(quota_deployments, 0) >= 0",
            name="quota_not_negative",
        ),
        # A user's personal group is made from an event that may come twice, by two processes at once.
        Index("uq_groups_personal_of", "personal_of", unique=True),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    personal_of: Mapped[str | None] = mapped_column(String(63))
    deployment_enabled: Mapped[bool] = mapped_column(default=True)
    quota_cpu: Mapped[Decimal | None]
    quota_memory: Mapped[int | None]
    quota_gpu: Mapped[Decimal | None]
    quota_deployments: Mapped[int | None]
    version: Mapped[int] = mapped_column(default=1)


class Member(Stamped, Base):
    """`source` is the identity provider whose claims made the user a member; None: somebody here did."""

    __tablename__ = "members"
    __table_args__ = (one_of("permission", "read", "edit", "manage"), Index(None, "user_id"))

    group_id: Mapped[str] = mapped_column(ForeignKey("groups.id", ondelete="CASCADE"), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    permission: Mapped[str] = mapped_column(String(10))
    source: Mapped[str | None] = mapped_column(String(40))
