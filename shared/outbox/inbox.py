"""The receiver's half: remember what was applied, in the transaction that applies it."""

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from shared.schema import InboxEntry


async def first_delivery(session: AsyncSession, *, consumer: str, event_id: str) -> bool:
    """Whether `consumer` sees the event for the first time; the memory commits with the session's transaction."""
    statement = insert(InboxEntry).values(consumer=consumer, event_id=event_id).on_conflict_do_nothing()
    return (await session.execute(statement.returning(InboxEntry.event_id))).scalar_one_or_none() is not None
