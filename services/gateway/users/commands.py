"""The only writer of users."""

from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from services.gateway.errors import LastAdmin
from services.gateway.sign_ins.commands import end_all
from services.gateway.users.queries import active_admins
from shared import outbox
from shared.errors import NameTaken
from shared.events.gateway import USER_CHANGED, USER_CREATED
from shared.schema import FormerUser, User

_ADMINS = 0x61646D  # "adm": who is an administrator changes one transaction at a time


async def create_user(
    session: AsyncSession,
    user: str,
    *,
    display_name: str = "",
    email: str | None = None,
    admin: bool = False,
    password_hash: str | None,
    of_service: bool = False,
) -> User:
    """A user `of_service` gets no personal group. Raises NameTaken."""
    statement = (
        insert(User)
        .values(id=user, display_name=display_name, email=email, admin=admin, password_hash=password_hash)
        .on_conflict_do_nothing()
        .returning(User)
    )
    row = (await session.execute(statement)).scalar_one_or_none()
    if row is None:
        raise NameTaken(f"There is a user {user} or one with this e-mail address already.", user=user)
    await outbox.append(session, USER_CHANGED if of_service else USER_CREATED, user, user=user)
    return row


async def change_user(session: AsyncSession, row: User, changes: dict[str, Any]) -> None:
    """Set `changes` (columns of users). Raises LastAdmin, NameTaken."""
    if not changes.get("admin", row.admin) or changes.get("disabled", row.disabled):
        await _keep_an_admin(session, row)
    for column, value in changes.items():
        setattr(row, column, value)
    row.version += 1
    row.updated_at = func.now()
    if changes.get("disabled") or "password_hash" in changes:
        await end_all(session, row.id)
    try:
        await session.flush()
    except IntegrityError as error:
        raise NameTaken("Another user has this e-mail address.", email=changes.get("email")) from error
    await session.refresh(row)
    await outbox.append(session, USER_CHANGED, row.id, user=row.id)


async def delete_user(session: AsyncSession, row: User) -> None:
    """With the user go sign-ins and memberships; what the user made stays, and the name is remembered. Raises
    LastAdmin."""
    await _keep_an_admin(session, row)
    await session.execute(insert(FormerUser).values(id=row.id).on_conflict_do_nothing())
    await session.execute(delete(User).where(User.id == row.id))
    await outbox.append(session, USER_CHANGED, row.id, user=row.id)


async def create_first_admin(session: AsyncSession, user: str, *, password_hash: str) -> str | None:
    """Make the administrator unless there is one, whose name is answered then. Raises NameTaken."""
    await session.execute(select(func.pg_advisory_xact_lock(_ADMINS)))
    admin = (await session.execute(select(User.id).where(User.admin).order_by(User.id).limit(1))).scalar_one_or_none()
    if admin is None:
        await create_user(session, user, admin=True, password_hash=password_hash)
    return admin


async def _keep_an_admin(session: AsyncSession, row: User) -> None:
    await session.execute(select(func.pg_advisory_xact_lock(_ADMINS)))
    if row.admin and not row.disabled and await active_admins(session) == {row.id}:
        raise LastAdmin(f"{row.id} is the only administrator; make another one first.", user=row.id)
