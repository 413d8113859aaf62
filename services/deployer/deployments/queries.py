"""Every SELECT of the deployments API; what may be seen is the caller's argument."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, DateTime, Uuid, and_, any_, cast, func, or_, select, tuple_
from sqlalchemy.dialects.postgresql import ARRAY, TEXT
from sqlalchemy.ext.asyncio import AsyncSession

from services.deployer.deployments.domain import Reservation
from shared.schema import Deployment, Group, InstanceType, Model, ModelAlias, ModelVersion, Route

SORTS = {
    "id": (Deployment.id,),
    "name": (Deployment.name, Deployment.id),
    "updated_at": (Deployment.updated_at, Deployment.id),
}
"""What a list can be sorted by; each has an index, and ends with what is unique."""


def kinds_of(sort: str) -> tuple[type[str] | type[datetime], ...]:
    """What a cursor of this order holds."""
    return tuple(datetime if column.key == "updated_at" else str for column in SORTS[sort.removeprefix("-")])


def sort_key(sort: str, row: Deployment) -> tuple[Any, ...]:
    """The row's place in the order."""
    return tuple(getattr(row, column.key) for column in SORTS[sort.removeprefix("-")])


_FOUND = select(Deployment, Route).outerjoin(Route, Route.uid == Deployment.uid)


class Found(NamedTuple):
    """A deployment and what the gateway says of it."""

    row: Deployment
    route: Route | None


async def deployment(session: AsyncSession, id: str) -> Found | None:  # noqa: A002  # the API's word
    """A live one."""
    statement = _FOUND.where(Deployment.id == id, Deployment.deleted_at.is_(None))
    found = (await session.execute(statement)).one_or_none()
    return Found(*found) if found else None


async def deployment_by_uid(session: AsyncSession, uid: UUID) -> Found | None:
    """Deleted or not."""
    found = (await session.execute(_FOUND.where(Deployment.uid == uid))).one_or_none()
    return Found(*found) if found else None


async def live(session: AsyncSession, id: str) -> Deployment | None:  # noqa: A002 - the API's word
    statement = select(Deployment).where(Deployment.id == id, Deployment.deleted_at.is_(None))
    return (await session.execute(statement)).scalar_one_or_none()


async def deployment_to_change(session: AsyncSession, uid: UUID) -> Deployment | None:
    """One that lives on, locked until the transaction ends: of two changes at once, the second sees the first.

    NO KEY: rows that only refer to it (replicas, steps, its route) are written meanwhile; its key never changes.
    """
    statement = select(Deployment).where(Deployment.uid == uid, Deployment.deleted_at.is_(None))
    statement = statement.with_for_update(key_share=True)
    return (await session.execute(statement.execution_options(populate_existing=True))).scalar_one_or_none()


async def with_history(session: AsyncSession, id: str) -> Deployment | None:  # noqa: A002 - the API's word
    """By id, the live one or else the one deleted last; or by uid, whatever has become of it."""
    by_uid: list[ColumnElement[bool]] = []
    with contextlib.suppress(ValueError):
        by_uid.append(Deployment.uid == UUID(id))
    statement = (
        select(Deployment)
        .where(or_(Deployment.id == id, *by_uid))
        .order_by(Deployment.deleted_at.is_(None).desc(), Deployment.deleted_at.desc())
        .limit(1)
    )
    return (await session.execute(statement)).scalar_one_or_none()


async def route(session: AsyncSession, uid: UUID) -> Route | None:
    return await session.get(Route, uid)


async def ids_like(session: AsyncSession, prefix: str) -> set[str]:
    """The ids in use that begin so."""
    pattern = prefix.replace("_", "\\_") + "%"
    statement = select(Deployment.id).where(Deployment.id.like(pattern), Deployment.deleted_at.is_(None))
    return set((await session.execute(statement)).scalars())


# Lists


@dataclass(frozen=True, kw_only=True)
class Filter:
    """`groups` None: those of all; the words may stand anywhere in id or name."""

    visible: frozenset[str] | None
    q: str | None = None
    groups: Sequence[str] = ()
    phases: Sequence[str] = ()
    created_by: str | None = None

    def clauses(self) -> list[ColumnElement[bool]]:
        found: list[ColumnElement[bool]] = []
        groups = frozenset(self.groups) or None
        if self.visible is not None:
            groups = self.visible & groups if groups else self.visible
        if groups is not None:
            found.append(Deployment.group_id == any_(cast(sorted(groups), ARRAY(TEXT))))
        if self.phases:
            found.append(Deployment.phase.in_(self.phases))
        if self.created_by is not None:
            found.append(Deployment.created_by == self.created_by)
        for word in (self.q or "").split():
            pattern = "%" + word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
            found.append(or_(Deployment.id.ilike(pattern), Deployment.name.ilike(pattern)))
        return found


async def page(
    session: AsyncSession, *, where: Filter, sort: str, after: tuple[Any, ...] | None, limit: int
) -> Sequence[Found]:
    """One row more than `limit`, if there is one."""
    columns, down = SORTS[sort.removeprefix("-")], sort.startswith("-")
    statement = select(Deployment).where(Deployment.deleted_at.is_(None), *where.clauses())
    if after is not None:
        key, last = tuple_(*columns), tuple_(*after)
        statement = statement.where(key < last if down else key > last)
    statement = statement.order_by(*(column.desc() if down else column for column in columns)).limit(limit + 1)
    rows = (await session.execute(statement)).scalars().all()
    # Not joined: for some filters PostgreSQL would then read all the routes there are.
    of_these = Route.uid == any_(cast([row.uid for row in rows], ARRAY(Uuid)))
    routes = {found.uid: found for found in (await session.execute(select(Route).where(of_these))).scalars()}
    return [Found(row, routes.get(row.uid)) for row in rows]


async def count(session: AsyncSession, *, where: Filter) -> int:
    statement = select(func.count()).select_from(Deployment).where(Deployment.deleted_at.is_(None), *where.clauses())
    return (await session.execute(statement)).scalar_one()


async def clock(session: AsyncSession) -> datetime:
    """The database's, which stamps the rows."""
    now = func.clock_timestamp(type_=DateTime(timezone=True))
    return (await session.execute(select(now))).scalar_one()


async def changed_since(
    session: AsyncSession, *, where: Filter, since: datetime, after: tuple[datetime, UUID] | None, limit: int
) -> Sequence[Found]:
    """What was changed, observed, routed or deleted since then, by `status_at` and uid; of that what comes `after`.

    A row that is observed meanwhile moves to a later place, so none is passed over.
    """
    routed = select(Route.uid).where(Route.enforced_at >= since)
    changed = or_(Deployment.updated_at >= since, Deployment.status_at >= since, Deployment.uid.in_(routed))
    place = tuple_(Deployment.status_at, Deployment.uid)
    statement = _FOUND.where(changed, *where.clauses()).order_by(Deployment.status_at, Deployment.uid).limit(limit)
    if after is not None:
        statement = statement.where(place > tuple_(*after))
    return [Found(*found) for found in (await session.execute(statement)).all()]


# Admission


async def group_to_admit(session: AsyncSession, group: str) -> Group | None:
    """The group, locked until the transaction ends, so that admissions come one after the other.

    NO KEY: two admissions exclude each other, and rows that only refer to the group (members, models) need not wait.
    """
    statement = select(Group).where(Group.id == group).with_for_update(key_share=True)
    return (await session.execute(statement.execution_options(populate_existing=True))).scalar_one_or_none()


async def used(session: AsyncSession, group: str, *, but: UUID) -> Reservation:
    """What the group's other deployments have reserved; a statement of its own, begun once the lock was had."""
    statement = select(
        func.coalesce(func.sum(Deployment.reserved_cpu), 0),
        func.coalesce(func.sum(Deployment.reserved_memory), 0),
        func.coalesce(func.sum(Deployment.reserved_gpu), 0),
        func.count(),
    ).where(
        Deployment.group_id == group,
        Deployment.deleted_at.is_(None),
        Deployment.stopped.is_(False),
        Deployment.uid != but,
    )
    cpu, memory, gpu, deployments = (await session.execute(statement)).one()
    return Reservation(cpu=Decimal(cpu), memory=int(memory), gpu=Decimal(gpu), deployments=deployments)


# What a deployment refers to


@dataclass(frozen=True)
class FoundModel:
    number: int
    digest: str | None
    artifact: Any
    size: int | None
    framework: str


async def model_version(
    session: AsyncSession, group: str, model: str, *, number: int | None, alias: str | None
) -> FoundModel | None:
    """One version: by its number, by an alias, or else the latest. It is held until the transaction ends: the registry
    locks what it is about to remove, so either it sees the deployment or we see no version."""
    statement = (
        select(
            ModelVersion.number,
            ModelVersion.digest,
            ModelVersion.artifact,
            ModelVersion.size,
            func.coalesce(func.nullif(ModelVersion.framework, ""), Model.framework).label("framework"),
        )
        .join(Model, Model.id == ModelVersion.model_id)
        .where(Model.group_id == group, Model.name == model)
        .order_by(ModelVersion.number.desc())
        .limit(1)
    )
    if alias is not None:
        named = and_(ModelAlias.model_id == ModelVersion.model_id, ModelAlias.number == ModelVersion.number)
        statement = statement.join(ModelAlias, named).where(ModelAlias.alias == alias)
    elif number is not None:
        statement = statement.where(ModelVersion.number == number)
    held = statement.with_for_update(read=True, key_share=True, of=ModelVersion)
    row = (await session.execute(held)).one_or_none()
    return FoundModel(*row) if row else None


async def has_address(session: AsyncSession, address: str, port: int, *, but: UUID | None) -> bool:
    """Whether another deployment has it. Until the transaction ends nobody else is told that it is free."""
    await session.execute(select(func.pg_advisory_xact_lock(func.hashtext(f"external_ips/{address}"))))
    has = Deployment.spec["versions"].contains([{"service": {"port": port, "external_ips": [address]}}])
    statement = select(Deployment.uid).where(has, Deployment.deleted_at.is_(None)).limit(1)
    if but is not None:
        statement = statement.where(Deployment.uid != but)
    return (await session.execute(statement)).first() is not None


async def instance_type(session: AsyncSession, group: str, *, id: str | None) -> InstanceType | None:  # noqa: A002 - the API's word
    """One that the group may use: by its id, or else the smallest. Held like a model version: the registry locks
    what it is about to remove or to change."""
    open_to = or_(InstanceType.groups.is_(None), InstanceType.groups.contains([group]))
    statement = select(InstanceType).where(open_to)
    if id is not None:
        statement = statement.where(InstanceType.id == id)
    else:
        statement = statement.order_by(InstanceType.gpu, InstanceType.memory, InstanceType.cpu, InstanceType.id)
    held = statement.limit(1).with_for_update(read=True, key_share=True)
    return (await session.execute(held.execution_options(populate_existing=True))).scalar_one_or_none()
