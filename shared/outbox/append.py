"""The sender's half: the event is a row of the same transaction as its change."""

from typing import Any

from sqlalchemy import func, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from shared.database import HINTS
from shared.events import EventType, new_event
from shared.schema import OutboxEntry


async def append(session: AsyncSession, contract: EventType, subject: str, **data: Any) -> None:
    """Publish an event if, and only if, the session's transaction commits.

    A hint goes with it: whoever wants to be quick listens for it, whoever must be sure consumes the event.
    """
    event = new_event(contract, subject, data)
    await session.execute(
        insert(OutboxEntry).values(topic=contract.topic, key=subject, event=event.model_dump(mode="json"))
    )
    await session.execute(select(func.pg_notify(HINTS, f"{contract.name} {subject}")))
