"""What is read of users."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, func, or_, select, true
from sqlalchemy.ext.asyncio import AsyncSession

from shared.errors import NotFound
from shared.schema import FormerUser, ServiceAccount, User


async def user_of(session: AsyncSession, user: str, *, for_update: bool = False) -> User:
    """Raises NotFound."""
    row = await session.get(User, user, with_for_update=for_update)
    if row is None:
        raise NotFound.named("user", user)
    return row


async def page_of_users(session: AsyncSession, *, q: str | None, after: str | None, limit: int) -> Sequence[User]:
    statement = select(User).where(_matches(q)).order_by(User.id).limit(limit)
    if after is not None:
        statement = statement.where(User.id > after)
    return (await session.execute(statement)).scalars().all()


async def count_users(session: AsyncSession, *, q: str | None) -> int:
    return int((await session.execute(select(func.count()).select_from(User).where(_matches(q)))).scalar_one())


async def is_of_service(session: AsyncSession, user: str) -> bool:
    return await session.get(ServiceAccount, user) is not None


async def is_former(session: AsyncSession, user: str) -> bool:
    """Whether somebody had this name who was removed."""
    return await session.get(FormerUser, user) is not None


async def active_admins(session: AsyncSession) -> set[str]:
    """The administrators who can sign in."""
    return set((await session.execute(select(User.id).where(User.admin, ~User.disabled))).scalars())


def _matches(q: str | None) -> ColumnElement[bool]:
    columns = (User.id, User.display_name, User.email)
    return or_(*(column.icontains(q, autoescape=True) for column in columns)) if q else true()
