"""Takes events from the outbox to the bus.

One relay works at a time (a session-level advisory lock), so the order of rows is the order on the bus; any number of
processes may run one, the others stand by. A row is removed only after the bus has taken its event: at least once. No
cursor `id > last` is kept, since a row with a lower id may be committed later; what is in the table is what is due.
"""

import asyncio
import contextlib
from datetime import UTC, datetime

from prometheus_client import Counter, Gauge
from sqlalchemy import ARRAY, BigInteger, bindparam, delete, func, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from shared.bus import Bus, BusUnavailable, Message
from shared.database import Hints, is_disconnect
from shared.events import CONTRACTS, CloudEvent
from shared.schema import OutboxEntry
from shared.telemetry import get_logger

log = get_logger(__name__)

_LOCK = 0x6D6F6F72  # "moor": one relay for the whole platform
_BATCH = 1000
# An array, since IN would be another statement to prepare for each number of rows.
_REMOVE = delete(OutboxEntry).where(OutboxEntry.id == func.any(bindparam("ids", type_=ARRAY(BigInteger))))

PUBLISHED = Counter("moorage_outbox_published_total", "Events that the relay has given to the bus")
DEPTH = Gauge(
    "moorage_outbox_depth",
    f"Events that the relay saw waiting at its last look; at most {_BATCH} unless the bus is away",
)
AGE = Gauge("moorage_outbox_oldest_seconds", "Age of the oldest event that the relay saw waiting at its last look")


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
            except Exception as error:
                if not is_disconnect(error):
                    raise
                log.warning("relay.database_away", error=repr(error))
            await asyncio.sleep(self._poll)

    async def _lock(self, connection: AsyncConnection) -> bool:
        return bool((await connection.execute(select(func.pg_try_advisory_lock(_LOCK)))).scalar())

    async def _publish_for_ever(self, connection: AsyncConnection) -> None:
        woken = asyncio.Event()
        # What the bus itself announces is no news here.
        end = self._hints.listen(lambda kind, _: woken.set() if not kind or kind in CONTRACTS else None)
        try:
            while True:
                woken.clear()
                try:
                    while await self._publish_batch(connection) == _BATCH:
                        pass
                except BusUnavailable as error:
                    log.warning("relay.bus_away", error=str(error))
                    waiting = select(func.count()).select_from(OutboxEntry)
                    DEPTH.set((await connection.execute(waiting)).scalar_one())
                    await asyncio.sleep(self._poll)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._poll):
                        await woken.wait()
        finally:
            end()
            DEPTH.set(0)
            AGE.set(0)
            # Closed, not given back to the pool: whatever has happened, the lock ends with it.
            await connection.invalidate()

    async def _publish_batch(self, connection: AsyncConnection) -> int:
        rows = (await connection.execute(select(OutboxEntry).order_by(OutboxEntry.id).limit(_BATCH))).all()
        DEPTH.set(len(rows))
        AGE.set(max(0.0, (datetime.now(UTC) - rows[0].created_at).total_seconds()) if rows else 0)
        if not rows:
            return 0
        await self._bus.publish(
            [Message(topic=row.topic, key=row.key, event=CloudEvent.model_validate(row.event)) for row in rows]
        )
        await connection.execute(_REMOVE, {"ids": [row.id for row in rows]})
        PUBLISHED.inc(len(rows))
        DEPTH.set(0)
        AGE.set(0)
        return len(rows)
