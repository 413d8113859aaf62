"""Every SELECT of the history."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from shared.schema import Revision


async def page(session: AsyncSession, uid: UUID, *, after: tuple[Any, ...] | None, limit: int) -> Sequence[Revision]:
    """The newest first; two more than `limit`, if there are: one for the cursor, one to compare the last with."""
    statement = select(Revision).where(Revision.uid == uid).order_by(Revision.number.desc()).limit(limit + 2)
    if after is not None:
        statement = statement.where(Revision.number < after[0])
    return (await session.execute(statement)).scalars().all()


async def pair(session: AsyncSession, uid: UUID, number: int) -> tuple[Revision | None, Revision | None]:
    """A revision, and the one before it."""
    statement = select(Revision).where(Revision.uid == uid, Revision.number.in_([number - 1, number]))
    found = {row.number: row for row in (await session.execute(statement)).scalars()}
    return found.get(number), found.get(number - 1)


async def count(session: AsyncSession, uid: UUID) -> int:
    statement = select(func.count()).select_from(Revision).where(Revision.uid == uid)
    return (await session.execute(statement)).scalar_one()
