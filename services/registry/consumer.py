"""Gives every user a personal group, on first sight.

The event makes it quick; a scan for users without one makes it certain.
"""

import asyncio

from sqlalchemy import exists, select

from services.registry.groups.commands import ensure_personal
from shared.events import CloudEvent
from shared.events.gateway import USER_CREATED
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
        if event.type != USER_CREATED.name:
            return
        async with core.sessions.begin() as session:
            if await first_delivery(session, consumer=CONSUMER, event_id=event.id):
                await ensure_personal(session, event.subject)

    await core.bus.consume(consumer=CONSUMER, topics=[USER_CREATED.topic], handler=handle)


async def resync(core: Core) -> None:
    """Until cancelled."""
    while True:
        await _scan(core)
        await asyncio.sleep(_RESYNC_SECONDS)


async def _scan(core: Core) -> None:
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
