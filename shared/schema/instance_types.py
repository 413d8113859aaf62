"""Written by the registry: the sizes on offer."""

from decimal import Decimal
from typing import Any

from sqlalchemy import CheckConstraint, String
from sqlalchemy.orm import Mapped, mapped_column

from shared.schema.base import Base, Stamped, dns_label


class InstanceType(Stamped, Base):
    """`gpu` is a number of cards or a fraction of one, `gpu_model` a model such as T4; `groups` None: open to all."""

    __tablename__ = "instance_types"
    __table_args__ = (
        dns_label("id"),
        CheckConstraint("cpu > 0 AND memory > 0 AND gpu >= 0", name="sizes_positive"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    cpu: Mapped[Decimal]
    memory: Mapped[int]
    gpu: Mapped[Decimal] = mapped_column(default=Decimal(0))
    gpu_model: Mapped[str | None] = mapped_column(String(63))
    node_selector: Mapped[dict[str, Any]] = mapped_column(default=dict)
    tolerations: Mapped[list[dict[str, Any]]] = mapped_column(default=list)
    groups: Mapped[list[str] | None]
    version: Mapped[int] = mapped_column(default=1)
