"""What is read of groups."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, exists, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.registry import usage
from services.registry.parameters import after
from shared.errors import NotFound
from shared.http import Caller, PageQuery
from shared.schema import Deployment, Group, Model


async def find(session: AsyncSession, group: str, *, lock: bool = False) -> Group:
    """Raises NotFound. `lock` holds it against other changes and against admission."""
    statement = select(Group).where(Group.id == group)
    found = (await session.execute(statement.with_for_update() if lock else statement)).scalar_one_or_none()
    if found is None:
        raise NotFound.named("group", group)
    return found


async def hold(session: AsyncSession, group: str) -> None:
    """Keep the group from being deleted until the transaction ends. Raises NotFound."""
    statement = select(Group.id).where(Group.id == group).with_for_update(read=True, key_share=True)
    if (await session.execute(statement)).scalar_one_or_none() is None:
        raise NotFound.named("group", group)


async def page(
    session: AsyncSession, *, caller: Caller, words: str | None, paging: PageQuery
) -> tuple[Sequence[Group], int | None]:
    """`limit + 1` rows by id, and the total if it was asked for."""
    wanted: list[ColumnElement[bool]] = []
    if caller.visible_groups is not None:
        wanted.append(Group.id.in_(caller.visible_groups))
    if words:
        wanted.append(or_(Group.id.icontains(words, autoescape=True), Group.name.icontains(words, autoescape=True)))
    total = None
    if paging.count:
        total = (await session.execute(select(func.count()).select_from(Group).where(*wanted))).scalar_one()
    if key := after(paging, str):
        wanted.append(Group.id > key[0])
    rows = await session.execute(select(Group).where(*wanted).order_by(Group.id).limit(paging.limit + 1))
    return rows.scalars().all(), total


async def reservations(session: AsyncSession, group: str) -> Sequence[Deployment]:
    """The deployments that count against the group's quota, the largest first."""
    statement = (
        select(Deployment)
        .where(Deployment.group_id == group, usage.reserved())
        .order_by(Deployment.reserved_cpu.desc(), Deployment.reserved_memory.desc(), Deployment.id)
    )
    return (await session.execute(statement)).scalars().all()


async def count_models(session: AsyncSession, group: str) -> int:
    return (await session.execute(select(func.count()).select_from(Model).where(Model.group_id == group))).scalar_one()


async def live_deployments(session: AsyncSession, group: str) -> Sequence[str]:
    statement = select(Deployment.id).where(Deployment.group_id == group, Deployment.deleted_at.is_(None))
    return (await session.execute(statement.order_by(Deployment.id))).scalars().all()


async def has_history(session: AsyncSession, group: str) -> bool:
    return bool((await session.execute(select(exists().where(Deployment.group_id == group)))).scalar())
