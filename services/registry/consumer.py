"""Gives every user a personal group, on first sight, and the memberships that identity providers speak of.

The event makes it quick; a scan for users without them makes it certain.
"""

import asyncio

from sqlalchemy import exists, select

from services.registry.groups.commands import ensure_personal
from services.registry.members.commands import follow_claims
from services.registry.members.queries import unfollowed
from shared.events import CloudEvent
from shared.events.gateway import USER_CHANGED, USER_CREATED
from shared.outbox import first_delivery
from shared.schema import Group, ServiceAccount, User
from shared.service import Core
from shared.telemetry import get_logger

log = get_logger(__name__)

CONSUMER = "registry"
_RESYNC_SECONDS = 300
_BATCH = 200


async def consume(core: Core) -> None:
    """Until cancelled."""

    async def handle(event: CloudEvent) -> None:
        if event.type not in (USER_CREATED.name, USER_CHANGED.name):
            return
        async with core.sessions.begin() as session:
            if await first_delivery(session, consumer=CONSUMER, event_id=event.id):
                if event.type == USER_CREATED.name:
                    await ensure_personal(session, event.subject)
                await follow_claims(session, event.subject)

    await core.bus.consume(consumer=CONSUMER, topics=[USER_CREATED.topic], handler=handle)


async def resync(core: Core) -> None:
    """Until cancelled."""
    while True:
        await give_groups(core)
        await follow_all_claims(core)
        await asyncio.sleep(_RESYNC_SECONDS)


async def follow_all_claims(core: Core) -> None:
    async with core.sessions() as session:
        users = await unfollowed(session, limit=_BATCH)
    for user in users:
        async with core.sessions.begin() as session:
            await follow_claims(session, user)


async def give_groups(core: Core) -> None:
    without = select(User.id).where(
        ~exists().where(Group.personal_of == User.id), ~exists().where(ServiceAccount.user_id == User.id)
    )
    without = without.order_by(User.id).limit(_BATCH)
    last = ""
    while True:
        async with core.sessions.begin() as session:
            users = (await session.execute(without.where(User.id > last))).scalars().all()
            for user in users:
                await ensure_personal(session, user)
        if users:
            log.info("personal_groups.made", count=len(users))
        if len(users) < _BATCH:
            return
        last = users[-1]
