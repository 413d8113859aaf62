"""Every write of members. The group's row is locked first, so that two managers cannot remove each other at once."""

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.registry.errors import LastManager, ManagedElsewhere
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
    if (member.permission, member.source) != (permission, None):
        if member.permission == "manage" != permission:
            await _keep_a_manager(session, caller=caller, group=group, user=user)
        member.permission, member.source = permission, None
        member.updated_at = (await session.execute(select(func.now()))).scalar_one()
        await session.flush()
        await _publish(session, group)
    return member, False


async def remove(session: AsyncSession, *, caller: Caller, group: str, user: str) -> None:
    await groups.find(session, group, lock=True)
    member = await queries.find(session, group, user)
    if member is None:
        raise NotFound.named("member", user)
    if member.source is not None:
        raise ManagedElsewhere(
            f"{user} is a member of {group} by what {member.source} says; change it there, or give another permission.",
            source=member.source,
        )
    if member.permission == "manage":
        await _keep_a_manager(session, caller=caller, group=group, user=user)
    await session.delete(member)
    await session.flush()
    await _publish(session, group)


async def follow_claims(session: AsyncSession, user: str) -> None:
    """Make memberships of what identity providers said of the user at the last sign-in, and end those of which they say
    nothing any more. What a manager has said stands. Safe to call at once and again."""
    claimed = await queries.claimed(session, user)
    for group in sorted(claimed.keys() | await queries.given_by_providers(session, user)):
        await groups.find(session, group, lock=True)
        member, wanted = await queries.find(session, group, user), claimed.get(group)
        if member is None and wanted is not None:
            session.add(Member(group_id=group, user_id=user, permission=wanted.permission, source=wanted.source))
        elif member is None or member.source is None:
            continue
        elif wanted is None:
            await session.delete(member)
        elif (member.permission, member.source) != (wanted.permission, wanted.source):
            member.permission, member.source = wanted.permission, wanted.source
            member.updated_at = (await session.execute(select(func.now()))).scalar_one()
        else:
            continue
        await session.flush()
        await _publish(session, group)


async def _keep_a_manager(session: AsyncSession, *, caller: Caller, group: str, user: str) -> None:
    """A group that its members could not manage any more would need an admin; so only an admin may make it so."""
    if not caller.admin and not await queries.other_managers(session, group, user):
        raise LastManager(f"{user} is the last manager of group {group}; make another member a manager first.")


async def _publish(session: AsyncSession, group: str) -> None:
    await outbox.append(session, GROUP_CHANGED, group, group=group)
