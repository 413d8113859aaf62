"""What sign-in reads."""

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from services.gateway.identity.domain import is_user_name
from shared.schema import User


@dataclass(frozen=True)
class Account:
    user: str
    disabled: bool
    password_hash: str | None


async def account_of(session: AsyncSession, user: str) -> Account | None:
    if not is_user_name(user):
        return None
    row = (
        await session.execute(select(User.id, User.disabled, User.password_hash).where(User.id == user))
    ).one_or_none()
    return Account(user=row.id, disabled=row.disabled, password_hash=row.password_hash) if row else None
