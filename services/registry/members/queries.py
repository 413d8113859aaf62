"""What is read of members."""

from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.registry.parameters import after
from shared.http import PageQuery
from shared.schema import Member


async def find(session: AsyncSession, group: str, user: str) -> Member | None:
    return await session.get(Member, (group, user), populate_existing=True)


async def page(session: AsyncSession, group: str, paging: PageQuery) -> tuple[Sequence[Member], int | None]:
    """`limit + 1` rows by user, and the total if it was asked for."""
    wanted = [Member.group_id == group]
    total = None
    if paging.count:
        total = (await session.execute(select(func.count()).select_from(Member).where(*wanted))).scalar_one()
    if key := after(paging, str):
        wanted.append(Member.user_id > key[0])
    rows = await session.execute(select(Member).where(*wanted).order_by(Member.user_id).limit(paging.limit + 1))
    return rows.scalars().all(), total


async def other_managers(session: AsyncSession, group: str, user: str) -> int:
    """How many managers the group has beside `user`."""
    statement = select(func.count()).where(
        Member.group_id == group, Member.permission == "manage", Member.user_id != user
    )
    return (await session.execute(statement)).scalar_one()
