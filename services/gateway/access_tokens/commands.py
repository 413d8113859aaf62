"""The only writer of personal access tokens, but for when they were last used."""

from collections.abc import Sequence
from datetime import datetime
from uuid import uuid4

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from services.gateway.access_tokens.domain import KEPT, MOST
from services.gateway.access_tokens.queries import count_tokens
from shared.access_tokens import sha256
from shared.errors import LimitReached, NameTaken
from shared.schema import AccessToken, User

LONG_EXPIRED = delete(AccessToken).where(AccessToken.expires_at < func.now() - KEPT)
"""A chore for shared.housekeeping."""


async def create_token(
    session: AsyncSession, user: str, name: str, *, token: str, scopes: Sequence[str], expires_at: datetime
) -> AccessToken:
    """Raises LimitReached, NameTaken."""
    # Of two at once the second waits here, and counts the first.
    await session.execute(select(User.id).where(User.id == user).with_for_update())
    if await count_tokens(session, AccessToken.user_id == user) >= MOST:
        raise LimitReached(f"You have {MOST} access tokens; revoke one first.", limit=MOST)
    statement = (
        insert(AccessToken)
        .values(id=uuid4(), user_id=user, name=name, sha256=sha256(token), scopes=list(scopes), expires_at=expires_at)
        .on_conflict_do_nothing()
        .returning(AccessToken)
    )
    row = (await session.execute(statement)).scalar_one_or_none()
    if row is None:
        raise NameTaken(f"You have an access token {name} already.", name=name)
    return row


async def revoke_token(session: AsyncSession, row: AccessToken) -> None:
    """Refused from the commit on, by all services: each request reads the row."""
    await session.delete(row)
