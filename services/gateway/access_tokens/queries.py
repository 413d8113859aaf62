"""What is read of personal access tokens."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import ColumnElement, func, select, true
from sqlalchemy.ext.asyncio import AsyncSession

from shared.access_tokens import sha256
from shared.errors import NotFound
from shared.http import Caller
from shared.schema import AccessToken


def seen_by(caller: Caller, user: str | None) -> ColumnElement[bool]:
    """One's own; administrators see those of `user`, or of all."""
    if not caller.admin:
        user = caller.user
    return AccessToken.user_id == user if user else true()


async def page_of_tokens(
    session: AsyncSession, where: ColumnElement[bool], *, after: tuple[str, str] | None, limit: int
) -> Sequence[AccessToken]:
    order = (AccessToken.user_id, AccessToken.name)
    statement = select(AccessToken).where(where).order_by(*order).limit(limit)
    if after is not None:
        user, name = after
        beyond = (AccessToken.user_id > user) | ((AccessToken.user_id == user) & (AccessToken.name > name))
        statement = statement.where(beyond)
    return (await session.execute(statement)).scalars().all()


async def count_tokens(session: AsyncSession, where: ColumnElement[bool]) -> int:
    return int((await session.execute(select(func.count()).select_from(AccessToken).where(where))).scalar_one())


async def token_behind(session: AsyncSession, token: str) -> AccessToken | None:
    """For whoever shows the token itself."""
    return (await session.execute(select(AccessToken).where(AccessToken.sha256 == sha256(token)))).scalar_one_or_none()


async def token_of(session: AsyncSession, caller: Caller, id_: UUID) -> AccessToken:
    """Raises NotFound, also for another user's."""
    row = await session.get(AccessToken, id_)
    if row is None:
        raise NotFound.named("access token", id_)
    caller.require(None, kind="access token", name=id_, own=row.user_id == caller.user)
    return row
