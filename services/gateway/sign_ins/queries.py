"""What is read of sign-ins."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, String, cast, func, select, true
from sqlalchemy.ext.asyncio import AsyncSession

from shared.access_tokens import sha256
from shared.errors import InvalidToken, NotFound
from shared.http import Caller
from shared.schema import RefreshToken, SignIn, SignInCode
from shared.tokens import Verifier


def seen_by(caller: Caller, user: str | None) -> ColumnElement[bool]:
    """One's own; administrators see those of `user`, or of all."""
    if not caller.admin:
        user = caller.user
    return SignIn.user_id == user if user else true()


async def page_of_sign_ins(
    session: AsyncSession, where: ColumnElement[bool], *, after: tuple[datetime, str] | None, limit: int
) -> Sequence[SignIn]:
    """The latest first."""
    statement = select(SignIn).where(where, SignIn.expires_at > func.now())
    text = cast(SignIn.id, String)
    statement = statement.order_by(SignIn.renewed_at.desc(), text).limit(limit)
    if after is not None:
        at, id_ = after
        beyond = (SignIn.renewed_at < at) | ((SignIn.renewed_at == at) & (text > id_))
        statement = statement.where(beyond)
    return (await session.execute(statement)).scalars().all()


async def count_sign_ins(session: AsyncSession, where: ColumnElement[bool]) -> int:
    statement = select(func.count()).select_from(SignIn).where(where, SignIn.expires_at > func.now())
    return int((await session.execute(statement)).scalar_one())


async def sign_in_of(session: AsyncSession, caller: Caller, id_: UUID) -> SignIn:
    """Raises NotFound, also for another user's."""
    row = await session.get(SignIn, id_)
    if row is None:
        raise NotFound.named("sign-in", id_)
    caller.require(None, kind="sign-in", name=id_, own=row.user_id == caller.user)
    return row


async def lock_behind(session: AsyncSession, kind: type[RefreshToken] | type[SignInCode], token: str) -> SignIn | None:
    """The sign-in of a refresh token or code, as it is until the end of the transaction; None once it has ended."""
    statement = select(SignIn).join(kind).where(kind.sha256 == sha256(token)).with_for_update(of=SignIn)
    return (await session.execute(statement)).scalar_one_or_none()


async def sign_in_behind(session: AsyncSession, token: str, *, verifier: Verifier) -> SignIn | None:
    """Which one an access or refresh token is of, if it is good for anything."""
    of_refresh_token = select(SignIn).join(RefreshToken).where(RefreshToken.sha256 == sha256(token))
    row = (await session.execute(of_refresh_token)).scalar_one_or_none()
    if row is not None:
        return row
    try:
        return await session.get(SignIn, (await verifier.verify(token)).sign_in)
    except InvalidToken:
        return None
