"""What is read of service accounts."""

from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from shared.errors import NotFound
from shared.schema import ServiceAccount, User

Found = tuple[ServiceAccount, bool]
"""An account, and whether it is disabled."""


async def account_of(session: AsyncSession, name: str, *, for_update: bool = False) -> Found:
    """Raises NotFound."""
    statement = select(ServiceAccount, User.disabled).join(User).where(ServiceAccount.user_id == name)
    if for_update:
        statement = statement.with_for_update(of=ServiceAccount)
    row = (await session.execute(statement)).one_or_none()
    if row is None:
        raise NotFound.named("service account", name)
    return row[0], row[1]


async def page_of_accounts(session: AsyncSession, *, after: str | None, limit: int) -> Sequence[Found]:
    statement = select(ServiceAccount, User.disabled).join(User).order_by(ServiceAccount.user_id).limit(limit)
    if after is not None:
        statement = statement.where(ServiceAccount.user_id > after)
    return [(account, disabled) for account, disabled in await session.execute(statement)]


async def count_accounts(session: AsyncSession) -> int:
    return int((await session.execute(select(func.count()).select_from(ServiceAccount))).scalar_one())
