"""The only writer of sign-ins, their refresh tokens and codes. Of each of these only the SHA-256 is kept.

A refresh token is good for one use, which gives the next. One that is used again was stolen, from the user or by the
user's own broken client: that sign-in ends, and whoever holds any of its tokens has to sign in.

Rows are locked in one order, which is that of the foreign keys: the user, the sign-in, its tokens and codes. To end a
sign-in takes the last two so; whoever goes on with one has to as well, or the two would wait for each other.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from services.gateway.sign_ins.domain import Origin, is_verifier_of
from services.gateway.sign_ins.queries import lock_behind
from shared.access_tokens import sha256
from shared.schema import RefreshToken, SignIn, SignInCode, User

CHORES = (
    delete(SignIn).where(SignIn.expires_at < func.now()),
    delete(RefreshToken).where(RefreshToken.expires_at < func.now()),
    delete(SignInCode).where(SignInCode.expires_at < func.now()),
)
"""For shared.housekeeping."""

_CODE_LIFE = timedelta(seconds=60)


class TokenReused(Exception):
    """A refresh token of `user` came a second time. Its sign-in has been ended in this session: commit that."""

    def __init__(self, user: str) -> None:
        super().__init__(user)
        self.user = user


@dataclass(frozen=True)
class Lives:
    """How long tokens live, in seconds."""

    access: int
    refresh: int


@dataclass(frozen=True)
class Started:
    """A sign-in that goes on. `access_until` is when an access token of now expires; `refresh_token` is None where the
    sign-in is not to be renewed."""

    id: UUID
    user: str
    access_until: datetime
    refresh_token: str | None = None


async def begin(
    session: AsyncSession,
    user: str,
    *,
    method: str,
    origin: Origin,
    lives: Lives,
    now: datetime,
    renewable: bool = True,
    ends_at: datetime | None = None,
) -> Started:
    """The caller has made sure that the user may sign in, and goes on to be so until the end of the transaction."""
    row = SignIn(
        id=uuid4(),
        user_id=user,
        method=method,
        address=origin.address,
        user_agent=origin.user_agent,
        expires_at=now,
        ends_at=ends_at,
    )
    session.add(row)
    return await _go_on(session, row, lives=lives, now=now, renewable=renewable)


async def renew(session: AsyncSession, token: str, *, lives: Lives, now: datetime) -> Started | None:
    """Exchange a refresh token; None if it is not good (any more). Raises TokenReused."""
    of_token = select(User.disabled).join(SignIn, SignIn.user_id == User.id)
    of_token = of_token.join(RefreshToken, RefreshToken.sign_in_id == SignIn.id)
    of_token = of_token.where(RefreshToken.sha256 == sha256(token)).with_for_update(read=True, of=User)
    disabled = (await session.execute(of_token)).scalar_one_or_none()
    row = await lock_behind(session, RefreshToken, token)
    if row is None:
        return None
    use = (
        update(RefreshToken)
        .where(RefreshToken.sha256 == sha256(token), RefreshToken.used_at.is_(None), RefreshToken.expires_at > now)
        .values(used_at=now)
        .returning(RefreshToken.sha256)
    )
    # Of two at once the second has waited for the first and finds it used.
    if (await session.execute(use)).scalar_one_or_none() is None:
        used = select(RefreshToken.used_at).where(RefreshToken.sha256 == sha256(token))
        if (await session.execute(used)).scalar_one_or_none() is not None:
            user = row.user_id
            await end(session, [row])
            raise TokenReused(user)
        return None
    if disabled or (row.ends_at is not None and row.ends_at <= now):
        return None
    row.renewed_at = now
    return await _go_on(session, row, lives=lives, now=now)


async def give_code(session: AsyncSession, sign_in: UUID, *, challenge: str, redirect_uri: str, now: datetime) -> str:
    """A code that fetches the sign-in's tokens within a minute, for whoever knows what the challenge was made of."""
    code = secrets.token_urlsafe(32)
    session.add(
        SignInCode(
            sha256=sha256(code),
            sign_in_id=sign_in,
            challenge=challenge,
            redirect_uri=redirect_uri,
            expires_at=now + _CODE_LIFE,
        )
    )
    await session.flush()
    return code


async def use_code(
    session: AsyncSession, code: str, *, verifier: str, redirect_uri: str, lives: Lives, now: datetime
) -> Started | None:
    """The sign-in behind a code, with its first refresh token; None if the code is not good (any more)."""
    sign_in = await lock_behind(session, SignInCode, code)
    taken = delete(SignInCode).where(SignInCode.sha256 == sha256(code)).returning(SignInCode)
    row = (await session.execute(taken)).scalar_one_or_none()
    if sign_in is None or row is None or row.expires_at <= now or row.redirect_uri != redirect_uri:
        return None
    if not is_verifier_of(verifier, row.challenge):
        return None
    return await _go_on(session, sign_in, lives=lives, now=now)


async def end(session: AsyncSession, rows: Sequence[SignIn]) -> None:
    """All its tokens are refused by every service from the commit on."""
    await session.execute(delete(SignIn).where(SignIn.id.in_([row.id for row in rows])))


async def end_all(session: AsyncSession, user: str) -> None:
    await session.execute(delete(SignIn).where(SignIn.user_id == user))


async def _go_on(session: AsyncSession, row: SignIn, *, lives: Lives, now: datetime, renewable: bool = True) -> Started:
    def until(seconds: int) -> datetime:
        end = now + timedelta(seconds=seconds)
        return end if row.ends_at is None else min(end, row.ends_at)

    access_until, refresh_until = until(lives.access), until(lives.refresh)
    row.expires_at = max(row.expires_at, access_until, refresh_until if renewable else now)
    await session.flush()
    token = None
    if renewable:
        token = secrets.token_urlsafe(32)
        session.add(RefreshToken(sha256=sha256(token), sign_in_id=row.id, expires_at=refresh_until))
        await session.flush()
    return Started(id=row.id, user=row.user_id, access_until=access_until, refresh_token=token)
