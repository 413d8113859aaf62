"""The only writer of `routes`: what Envoy has acknowledged."""

from uuid import UUID

from sqlalchemy import bindparam, func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from services.gateway.domain import Record
from shared import outbox
from shared.events.gateway import ROUTE_ENFORCED
from shared.schema import Base, Route

_ROUTES = Base.metadata.tables[Route.__tablename__]
_NAMES = ("generation", "endpoints_generation", "weights", "rejected")
_INSERT = insert(_ROUTES).values(
    uid=bindparam("uid"), enforced_at=func.now(), **{name: bindparam(name) for name in _NAMES}
)
# Made once, since every change passes here. Generations only rise: who is late takes nothing back.
_RECORD = _INSERT.on_conflict_do_update(
    index_elements=[_ROUTES.c.uid],
    set_={name: _INSERT.excluded[name] for name in (*_NAMES, "enforced_at")},
    where=(_ROUTES.c.generation <= _INSERT.excluded.generation)
    & (_ROUTES.c.endpoints_generation <= _INSERT.excluded.endpoints_generation),
).returning(_ROUTES.c.uid)


async def record_route(session: AsyncSession, uid: UUID, deployment: str, record: Record) -> None:
    """Write the row of one deployment, and its event if that changes anything."""
    values = {
        "uid": uid,
        "generation": record.generation,
        "endpoints_generation": record.endpoints_generation,
        "weights": {str(version): weight for version, weight in record.weights.items()},
        "rejected": record.rejected,
    }
    connection = await session.connection()
    if (await connection.execute(_RECORD, values)).first() is None:
        return
    await outbox.append(
        session,
        ROUTE_ENFORCED,
        str(uid),
        id=deployment,
        generation=record.generation,
        endpoints_generation=record.endpoints_generation,
    )
