"""Refresh tokens, and the hash that a sign-in renews. Only a token's SHA-256 is kept.

Each token is good for one use, which gives the next of its family. One that is used again was stolen, from the user or
by the user's own broken client: the whole family ends, and whoever holds any of it has to sign in.
"""

import hashlib
import secrets
from datetime import datetime, timedelta
from uuid import uuid4

from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from shared.schema import RefreshToken, User

EXPIRED = delete(RefreshToken).where(RefreshToken.expires_at < func.now())
"""A chore for shared.housekeeping."""


class TokenReused(Exception):
    """A refresh token of `user` came a second time. Its family has been removed in this session: commit that."""

    def __init__(self, user: str) -> None:
        super().__init__(user)
        self.user = user


async def new_refresh_token(
    session: AsyncSession, user: str, *, now: datetime, lifetime: int, family: str | None = None
) -> str:
    token = secrets.token_urlsafe(32)
    session.add(
        RefreshToken(
            sha256=_sha256(token),
            family=family or str(uuid4()),
            user_id=user,
            expires_at=now + timedelta(seconds=lifetime),
        )
    )
    return token


async def lock_sign_ins(session: AsyncSession, user: str, *, password_hash: str) -> bool:
    """Keep the user as it is until the end of the transaction; whether the user may still sign in with this hash.

    Whoever gives out a refresh token has to: a new password or `disabled`, committed meanwhile, has ended all sign-ins
    that it could see, and one that waits for this lock will see the token.
    """
    still = select(User.id).where(User.id == user, User.password_hash == password_hash, ~User.disabled)
    return (await session.execute(still.with_for_update(read=True))).scalar_one_or_none() is not None


async def use_refresh_token(
    session: AsyncSession, token: str, *, now: datetime, lifetime: int
) -> tuple[str, str] | None:
    """Exchange it: `(user, next token)`, or None if it is not good (any more). Raises TokenReused."""
    # As in `lock_sign_ins`, and before the token's own lock, in the order in which a new password takes the two.
    of_token = select(User.disabled).join(RefreshToken, RefreshToken.user_id == User.id)
    of_token = of_token.where(RefreshToken.sha256 == _sha256(token)).with_for_update(read=True, of=User)
    disabled = (await session.execute(of_token)).scalar_one_or_none()
    used = (
        update(RefreshToken)
        .where(RefreshToken.sha256 == _sha256(token), RefreshToken.used_at.is_(None), RefreshToken.expires_at > now)
        .values(used_at=now)
        .returning(RefreshToken.user_id, RefreshToken.family)
    )
    # Of two at once the second waits for the first and then finds it used.
    row = (await session.execute(used)).one_or_none()
    if row is None:
        known = select(RefreshToken.family, RefreshToken.user_id).where(
            RefreshToken.sha256 == _sha256(token), RefreshToken.used_at.is_not(None)
        )
        if (reused := (await session.execute(known)).one_or_none()) is not None:
            await session.execute(delete(RefreshToken).where(RefreshToken.family == reused.family))
            raise TokenReused(reused.user_id)
        return None
    if disabled:
        return None
    return row.user_id, await new_refresh_token(session, row.user_id, now=now, lifetime=lifetime, family=row.family)


async def sign_out_everywhere(session: AsyncSession, user: str) -> None:
    await session.execute(delete(RefreshToken).where(RefreshToken.user_id == user))


async def renew_hash(session: AsyncSession, user: str, *, before: str, after: str) -> None:
    """Unless the password has been changed meanwhile."""
    await session.execute(update(User).where(User.id == user, User.password_hash == before).values(password_hash=after))


def _sha256(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
