"""The only writer of `routes`: what Envoys have acknowledged, by gateway and together."""

from dataclasses import replace
from uuid import UUID

from services.gateway.domain import Record, agreed, parse_record, parse_weights, stored_record
from shared import outbox
from shared.database import Direct
from shared.events.gateway import ROUTE_ENFORCED

# The lock makes gateways that record at the same time see each other's word.
_LOCK = """
    SELECT generation, endpoints_generation, weights, rejected, acks,
        ARRAY(SELECT DISTINCT gateway FROM envoys) AS gateways
    FROM routes WHERE uid = $1 FOR UPDATE OF routes
"""
_EMPTY = """
    INSERT INTO routes (uid, generation, endpoints_generation, weights, acks) VALUES ($1, 0, 0, '{}', '{}')
    ON CONFLICT DO NOTHING
"""
_SAY = "UPDATE routes SET acks = $2 WHERE uid = $1"
_AGREE = f"""
    WITH route AS (
        UPDATE routes
        SET acks = $2, generation = $3, endpoints_generation = $4, weights = $5, rejected = $6, enforced_at = now()
        WHERE uid = $1 RETURNING uid
    ), {outbox.appending("$7", beside="route")}
    SELECT * FROM told
"""  # noqa: S608  # constants only


async def record_route(
    direct: Direct, uid: UUID, deployment: str, *, gateway: str, record: Record | None = None
) -> None:
    """Write what the Envoys of `gateway` have acknowledged of a deployment, if that is new, and what all have together,
    with its event, if that has changed."""
    async with direct.connection() as connection, connection.transaction():
        while (row := await connection.fetchrow(_LOCK, uid)) is None:
            await connection.execute(_EMPTY, uid)
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
        acks = {each: stored_record(said[each]) for each in gateways & said.keys()}
        if together == before:
            if acks != row.acks:
                await connection.execute(_SAY, uid, acks)
            return
        stored = stored_record(together)
        told = outbox.entry(
            ROUTE_ENFORCED,
            str(uid),
            id=deployment,
            generation=together.generation,
            endpoints_generation=together.endpoints_generation,
            rejected=together.rejected is not None,
        )
        values = (stored[name] for name in ("generation", "endpoints_generation", "weights", "rejected"))
        await connection.fetch(_AGREE, uid, acks, *values, [told])
