"""What is read of instance types."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Text, func, literal, or_, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession

from services.registry.parameters import after
from shared.errors import NotFound
from shared.http import Caller, PageQuery
from shared.schema import Group, InstanceType


async def find(session: AsyncSession, instance_type: str, *, caller: Caller, lock: bool = False) -> InstanceType:
    """Raises NotFound, also for one that is open to none of the caller's groups."""
    statement = select(InstanceType).where(InstanceType.id == instance_type, *_visible(caller))
    found = (await session.execute(statement.with_for_update() if lock else statement)).scalar_one_or_none()
    if found is None:
        raise NotFound.named("instance type", instance_type)
    return found


async def page(
    session: AsyncSession, *, caller: Caller, group: str | None, paging: PageQuery
) -> tuple[Sequence[InstanceType], int | None]:
    """`limit + 1` rows by id, and the total if it was asked for."""
    wanted = _visible(caller)
    if group is not None:
        wanted.append(_open_to([group]))
    total = None
    if paging.count:
        total = (await session.execute(select(func.count()).select_from(InstanceType).where(*wanted))).scalar_one()
    if key := after(paging, str):
        wanted.append(InstanceType.id > key[0])
    rows = await session.execute(select(InstanceType).where(*wanted).order_by(InstanceType.id).limit(paging.limit + 1))
    return rows.scalars().all(), total


async def unknown_groups(session: AsyncSession, groups: Sequence[str]) -> list[str]:
    known = (await session.execute(select(Group.id).where(Group.id.in_(groups)))).scalars().all()
    return sorted(set(groups) - set(known))


def _visible(caller: Caller) -> list[ColumnElement[bool]]:
    return [] if caller.visible_groups is None else [_open_to(sorted(caller.visible_groups))]


def _open_to(groups: list[str]) -> ColumnElement[bool]:
    return or_(InstanceType.groups.is_(None), InstanceType.groups.op("?|")(literal(groups, ARRAY(Text))))
