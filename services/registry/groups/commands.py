"""Every write of groups and quotas, with its event."""

from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from services.registry.groups import queries
from services.registry.groups.domain import personal_ids
from services.registry.groups.schemas import GroupCreate
from shared import outbox
from shared.errors import Conflict, InUse, NameTaken
from shared.events.registry import GROUP_CHANGED
from shared.http import check_match
from shared.schema import Group, InstanceType, Member, User


async def create(session: AsyncSession, body: GroupCreate) -> Group:
    statement = insert(Group).values(
        id=body.id,
        name=body.name or body.id,
        deployment_enabled=body.deployment_enabled,
        **body.quota.columns(only_given=False),
    )
    made = (await session.execute(statement.on_conflict_do_nothing().returning(Group))).scalar_one_or_none()
    if made is None:
        raise NameTaken(f"There is a group {body.id} already; choose another id.", id=body.id)
    await _publish(session, made.id)
    return made


async def change(session: AsyncSession, group: str, columns: dict[str, Any], *, if_match: str | None) -> Group:
    """Set `columns`; a change that changes nothing leaves the version, and nobody is told."""
    found = await queries.find(session, group, lock=True)
    check_match(if_match, found.version)
    changed = {name: value for name, value in columns.items() if getattr(found, name) != value}
    if changed:
        for name, value in changed.items():
            setattr(found, name, value)
        found.version += 1
        found.updated_at = (await session.execute(select(func.now()))).scalar_one()
        await session.flush()
        await _publish(session, group)
    return found


async def delete(session: AsyncSession, group: str, *, if_match: str | None) -> None:
    found = await queries.find(session, group, lock=True)
    check_match(if_match, found.version)
    owner = (await session.execute(select(User.id).where(User.id == found.personal_of))).scalar_one_or_none()
    if owner is not None:
        raise Conflict(f"{group} is the personal group of {owner}; it stays as long as the user is there.")
    if live := await queries.live_deployments(session, group):
        raise InUse(f"Group {group} has deployments; delete them first.", deployments=list(live))
    if models := await queries.count_models(session, group):
        raise InUse(f"Group {group} has {models} models; delete them first.", models=models)
    if await queries.has_history(session, group):
        raise InUse(
            f"Group {group} has had deployments, whose history is kept; remove its members and switch deployment off."
        )
    # A group of the same name that is made later must not come into what was opened to this one.
    of_group = InstanceType.groups.op("?")(group)
    await session.execute(
        update(InstanceType)
        .where(of_group)
        .values(groups=InstanceType.groups.op("-")(group), version=InstanceType.version + 1)
        .execution_options(synchronize_session=False)
    )
    await session.delete(found)
    await session.flush()
    await _publish(session, group)


async def ensure_personal(session: AsyncSession, user: str) -> None:
    """Make the user's personal group, with the user as manager; safe to call at once and again.

    One that is there already has outlived a user of this name, who manages it again.
    """
    person = (
        await session.execute(select(User).where(User.id == user).with_for_update(read=True, key_share=True))
    ).scalar_one_or_none()
    if person is None:
        return
    for candidate in personal_ids(user):
        statement = insert(Group).values(id=candidate, name=person.display_name or user, personal_of=user)
        made = await session.execute(statement.on_conflict_do_nothing().returning(Group.id))
        if made.scalar_one_or_none() is not None:
            session.add(Member(group_id=candidate, user_id=user, permission="manage"))
            await session.flush()
            await _publish(session, candidate)
            return
        kept = (await session.execute(select(Group.id).where(Group.personal_of == user))).scalar_one_or_none()
        if kept is not None:
            manager = insert(Member).values(group_id=kept, user_id=user, permission="manage")
            again = await session.execute(manager.on_conflict_do_nothing().returning(Member.user_id))
            if again.scalar_one_or_none() is not None:
                await _publish(session, kept)
            return
    raise NameTaken(f"No id is free for the personal group of {user}.")


async def _publish(session: AsyncSession, group: str) -> None:
    await outbox.append(session, GROUP_CHANGED, group, group=group)
