"""The only writer of `routes`: what Envoys have acknowledged, by gateway and together."""

from dataclasses import replace
from uuid import UUID

from sqlalchemy import bindparam, func, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from services.gateway.domain import Record, agreed, parse_record, parse_weights, stored_record
from shared import outbox
from shared.events.gateway import ROUTE_ENFORCED
from shared.schema import Base, Route

_ROUTES = Base.metadata.tables[Route.__tablename__]

# Made once, since every change passes here. The lock makes gateways that record at the same time see each other's word.
_LOCK = text("""
    SELECT generation, endpoints_generation, weights, rejected, acks,
        ARRAY(SELECT DISTINCT gateway FROM envoys) AS gateways
    FROM routes WHERE uid = :uid FOR UPDATE OF routes
""")
_EMPTY = insert(_ROUTES).values(uid=bindparam("uid"), generation=0, endpoints_generation=0, weights={}, acks={})
_EMPTY = _EMPTY.on_conflict_do_nothing()
_OF_THIS = update(_ROUTES).where(_ROUTES.c.uid == bindparam("of"))
_SAY = _OF_THIS.values(acks=bindparam("acks"))
_AGREE = _OF_THIS.values(
    enforced_at=func.now(),
    **{name: bindparam(name) for name in ("acks", "generation", "endpoints_generation", "weights", "rejected")},
)


async def record_route(
    session: AsyncSession, uid: UUID, deployment: str, *, gateway: str, record: Record | None = None
) -> None:
    """Write what the Envoys of `gateway` have acknowledged of a deployment, if that is new, and what all have together,
    with its event, if that has changed."""
    connection = await session.connection()
    while (row := (await connection.execute(_LOCK, {"uid": uid})).one_or_none()) is None:
        await connection.execute(_EMPTY, {"uid": uid})
    said = {each: parse_record(stored) for each, stored in row.acks.items()}
    gateways = set(row.gateways)
    if record is not None:
        if record.rejected is not None:  # the last good state stands, and the row knows best which that was
            record = replace(said.get(gateway) or Record(), rejected=record.rejected)
        said[gateway] = record
        gateways.add(gateway)  # also before its first Envoy is noted down
    before = Record(row.generation, row.endpoints_generation, parse_weights(row.weights), row.rejected)
    together = agreed(before, said, gateways=gateways)
    # Those that are gone need not be remembered.
    values = {"of": uid, "acks": {each: stored_record(said[each]) for each in gateways & said.keys()}}
    if together == before:
        if values["acks"] != row.acks:
            await connection.execute(_SAY, values)
        return
    stored = stored_record(together)
    await connection.execute(_AGREE, values | {each: stored[each] for each in stored if each != "clients"})
    await outbox.append(
        session,
        ROUTE_ENFORCED,
        str(uid),
        id=deployment,
        generation=together.generation,
        endpoints_generation=together.endpoints_generation,
    )
