"""The only writer of `routes`: what Envoy has acknowledged."""

from uuid import UUID

from sqlalchemy import func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from services.gateway.domain import Record
from shared import outbox
from shared.events.gateway import ROUTE_ENFORCED
from shared.schema import Route


async def record_route(session: AsyncSession, uid: UUID, deployment: str, record: Record) -> None:
    """Write the row of one deployment and its event. Generations only rise: who is late takes nothing back."""
    values = {
        "generation": record.generation,
        "endpoints_generation": record.endpoints_generation,
        "weights": {str(version): weight for version, weight in record.weights.items()},
        "rejected": record.rejected,
        "enforced_at": func.now(),
    }
    statement = insert(Route).values(uid=uid, **values)
    statement = statement.on_conflict_do_update(
        index_elements=[Route.uid],
        set_=values,
        where=(Route.generation <= record.generation) & (Route.endpoints_generation <= record.endpoints_generation),
    )
    if (await session.execute(statement.returning(Route.uid))).scalar_one_or_none() is None:
        return
    await outbox.append(
        session,
        ROUTE_ENFORCED,
        str(uid),
        id=deployment,
        generation=record.generation,
        endpoints_generation=record.endpoints_generation,
    )
