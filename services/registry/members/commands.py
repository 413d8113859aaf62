"""Every write of members. The group's row is locked first, so that two managers cannot remove each other at once."""

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.registry.errors import LastManager
from services.registry.groups import queries as groups
from services.registry.members import queries
from services.registry.members.schemas import PermissionName
from shared import outbox
from shared.errors import NotFound
from shared.events.registry import GROUP_CHANGED
from shared.http import Caller
from shared.schema import Member, User


async def put(
    session: AsyncSession, *, caller: Caller, group: str, user: str, permission: PermissionName
) -> tuple[Member, bool]:
    """The member, and whether it is new."""
    await groups.find(session, group, lock=True)
    known = select(User.id).where(User.id == user).with_for_update(read=True, key_share=True)
    if (await session.execute(known)).scalar_one_or_none() is None:
        raise NotFound.named("user", user)
    member = await queries.find(session, group, user)
    if member is None:
        member = Member(group_id=group, user_id=user, permission=permission)
        session.add(member)
        await session.flush()
        await session.refresh(member)
        await _publish(session, group)
        return member, True
    if member.permission != permission:
        if member.permission == "manage":
            await _keep_a_manager(session, caller=caller, group=group, user=user)
        member.permission = permission
        member.updated_at = (await session.execute(select(func.now()))).scalar_one()
        await session.flush()
        await _publish(session, group)
    return member, False


async def remove(session: AsyncSession, *, caller: Caller, group: str, user: str) -> None:
    await groups.find(session, group, lock=True)
    member = await queries.find(session, group, user)
    if member is None:
        raise NotFound.named("member", user)
    if member.permission == "manage":
        await _keep_a_manager(session, caller=caller, group=group, user=user)
    await session.delete(member)
    await session.flush()
    await _publish(session, group)


async def _keep_a_manager(session: AsyncSession, *, caller: Caller, group: str, user: str) -> None:
    """A group that its members could not manage any more would need an admin; so only an admin may make it so."""
    if not caller.admin and not await queries.other_managers(session, group, user):
        raise LastManager(f"{user} is the last manager of group {group}; make another member a manager first.")


async def _publish(session: AsyncSession, group: str) -> None:
    await outbox.append(session, GROUP_CHANGED, group, group=group)
