"""The sender's half: the event is a row of the same transaction as its change."""

from typing import Any

from sqlalchemy import Table, bindparam, func, insert, literal, select
from sqlalchemy.ext.asyncio import AsyncSession

from shared.database import HINTS
from shared.events import EventType, new_event
from shared.schema import Base, OutboxEntry

_OUTBOX: Table = Base.metadata.tables[OutboxEntry.__tablename__]
_ROW = {name: bindparam(name, type_=_OUTBOX.c[name].type) for name in ("topic", "key", "event")}

# Built once: it goes with every change, and building it would cost more than running it.
_APPEND = select(func.pg_notify(HINTS, bindparam("hint"))).select_from(
    insert(_OUTBOX).values(_ROW).returning(literal(1)).cte("appended")
)


async def append(session: AsyncSession, contract: EventType, subject: str, **data: Any) -> None:
    """Publish an event if, and only if, the session's transaction commits.

    Events of a subject keep the order of these calls; across transactions that is the order of the commits if each
    locks the subject's row before it appends. A hint goes with it: whoever wants to be quick listens for that, whoever
    must be sure consumes the event.
    """
    event = new_event(contract, subject, data)
    row = {"topic": contract.topic, "key": subject, "event": event.model_dump(mode="json", exclude_none=True)}
    await session.execute(_APPEND, {**row, "hint": f"{contract.name} {subject}"})
