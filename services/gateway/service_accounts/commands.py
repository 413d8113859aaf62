"""The only writer of service accounts. The user beside each is made and removed by `users`."""

from datetime import datetime, timedelta

from sqlalchemy import func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from services.gateway.sign_ins.commands import end_all
from services.gateway.users.commands import create_user
from shared.access_tokens import sha256
from shared.schema import ServiceAccount, User


async def create_account(session: AsyncSession, name: str, *, description: str, secret: str, by: str) -> ServiceAccount:
    """Raises NameTaken."""
    await create_user(session, name, password_hash=None, of_service=True)
    row = ServiceAccount(user_id=name, description=description, sha256=sha256(secret), created_by=by)
    session.add(row)
    await session.flush()
    await session.refresh(row)
    return row


async def rotate_secret(
    session: AsyncSession, row: ServiceAccount, *, secret: str, overlap: int, now: datetime
) -> None:
    """From the commit on `secret` is good, and the one before for `overlap` seconds. Without any, what it gave ends."""
    row.previous_sha256 = row.sha256 if overlap else None
    row.previous_until = now + timedelta(seconds=overlap) if overlap else None
    row.sha256 = sha256(secret)
    row.version += 1
    row.updated_at = func.now()
    await session.flush()
    if not overlap:
        await end_all(session, row.user_id)


async def sign_in(session: AsyncSession, name: str, secret: str, *, now: datetime) -> bool:
    """Whether the secret is good now, and stays so until the end of the transaction; if so, that it was used."""
    known = sha256(secret)
    user = select(User.id).where(User.id == name, ~User.disabled).with_for_update(read=True)
    if (await session.execute(user)).scalar_one_or_none() is None:
        return False
    used = (
        update(ServiceAccount)
        .where(
            ServiceAccount.user_id == name,
            or_(
                ServiceAccount.sha256 == known,
                (ServiceAccount.previous_sha256 == known) & (ServiceAccount.previous_until > now),
            ),
        )
        .values(last_used_at=now)
        .returning(ServiceAccount.user_id)
    )
    return (await session.execute(used)).scalar_one_or_none() is not None
