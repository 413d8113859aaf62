"""Takes events from the outbox to the bus.

One relay works at a time (a session-level advisory lock), so the order of rows is the order on the bus; any number of
processes may run one, the others stand by. A row is removed only after the bus has taken its event: at least once. No
cursor `id > last` is kept, since a row with a lower id may be committed later; what is in the table is what is due.
"""

import asyncio
import contextlib

from prometheus_client import Counter, Gauge
from sqlalchemy import delete, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from shared.bus import Bus, BusUnavailable, Message
from shared.database import Hints, is_disconnect
from shared.events import CloudEvent
from shared.schema import OutboxEntry
from shared.telemetry import get_logger

log = get_logger(__name__)

_LOCK = 0x6D6F6F72  # "moor": one relay for the whole platform
_BATCH = 500

PUBLISHED = Counter("moorage_outbox_published_total", "Events that the relay has given to the bus")
DEPTH = Gauge("moorage_outbox_depth", "Events that wait to be published")
AGE = Gauge("moorage_outbox_oldest_seconds", "Age of the oldest event that waits to be published")


class Relay:
    """Publishes the outbox until it is cancelled; `poll` bounds the delay when a hint was lost (seconds)."""

    def __init__(self, engine: AsyncEngine, bus: Bus, hints: Hints, *, poll: float = 1.0) -> None:
        self._engine = engine
        self._bus = bus
        self._hints = hints
        self._poll = poll

    async def run(self) -> None:
        while True:
            try:
                async with self._engine.connect() as connection:
                    await connection.execution_options(isolation_level="AUTOCOMMIT")
                    if await self._lock(connection):
                        await self._publish_for_ever(connection)
            except BusUnavailable as error:
                log.warning("relay.bus_away", error=str(error))
            except Exception as error:
                if not is_disconnect(error):
                    raise
                log.warning("relay.database_away", error=str(error))
            await asyncio.sleep(self._poll)

    async def _lock(self, connection: AsyncConnection) -> bool:
        return bool((await connection.execute(select(func.pg_try_advisory_lock(_LOCK)))).scalar())

    async def _publish_for_ever(self, connection: AsyncConnection) -> None:
        woken = asyncio.Event()
        end = self._hints.listen(lambda *_: woken.set())
        try:
            while True:
                woken.clear()
                while await self._publish_batch(connection) == _BATCH:
                    pass
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(woken.wait(), self._poll)
        finally:
            end()
            # The connection goes back to the pool: the lock must not go with it.
            with contextlib.suppress(Exception):
                await connection.execute(select(func.pg_advisory_unlock(_LOCK)))

    async def _publish_batch(self, connection: AsyncConnection) -> int:
        rows = (await connection.execute(select(OutboxEntry).order_by(OutboxEntry.id).limit(_BATCH))).all()
        if rows:
            await self._bus.publish(
                [Message(topic=row.topic, key=row.key, event=CloudEvent.model_validate(row.event)) for row in rows]
            )
            await connection.execute(delete(OutboxEntry).where(OutboxEntry.id.in_([row.id for row in rows])))
            PUBLISHED.inc(len(rows))
        await self._measure(connection, full=len(rows) == _BATCH)
        return len(rows)

    async def _measure(self, connection: AsyncConnection, *, full: bool) -> None:
        if not full:
            DEPTH.set(0)
            AGE.set(0)
            return
        depth, age = (
            await connection.execute(
                text("SELECT count(*), coalesce(extract(epoch FROM now() - min(created_at)), 0) FROM outbox")
            )
        ).one()
        DEPTH.set(depth)
        AGE.set(float(age))
