"""What a sign-in with a password writes of its user."""

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from shared.schema import User


async def lock_user(session: AsyncSession, user: str, *, password_hash: str) -> bool:
    """Keep the user as it is until the end of the transaction; whether the user may still sign in with this hash.

    Whoever begins a sign-in has to: a new password or `disabled`, committed meanwhile, has ended all sign-ins that it
    could see, and one that waits for this lock will see the one that is begun.
    """
    still = select(User.id).where(User.id == user, User.password_hash == password_hash, ~User.disabled)
    return (await session.execute(still.with_for_update(read=True))).scalar_one_or_none() is not None


async def renew_hash(session: AsyncSession, user: str, password_hash: str) -> None:
    """Of the same password, by today's parameters. The caller has locked the user."""
    await session.execute(update(User).where(User.id == user).values(password_hash=password_hash))
