"""Takes events from the outbox to the bus.

One relay works at a time (a session-level advisory lock), so the order of rows is the order on the bus; any number of
processes may run one, the others stand by. A row is removed only after the bus has taken its event: at least once. No
cursor `id > last` is kept, since a row with a lower id may be committed later; what is in the table is what is due.
"""

import asyncio
import contextlib
from datetime import UTC, datetime

import asyncpg
from prometheus_client import Counter, Gauge

from shared.bus import Bus, BusUnavailable, Message
from shared.database import Direct, Hints, is_disconnect
from shared.events import CONTRACTS, CloudEvent
from shared.telemetry import get_logger

log = get_logger(__name__)

_LOCK = 0x6D6F6F72  # "moor": one relay for the whole platform
_BATCH = 1000
_GATHER = 0.02
"""Seconds that events have to come together once several came at once. Each batch costs every consumer some statements,
and those for whom it is urgent have heard a hint."""
_TRY_LOCK = "SELECT pg_try_advisory_lock($1)"
_DUE = "SELECT id, topic, key, event, created_at FROM outbox ORDER BY id LIMIT $1"
_REMOVE = "DELETE FROM outbox WHERE id = ANY ($1::bigint[])"
_WAITING = "SELECT count(*) FROM outbox"

PUBLISHED = Counter("moorage_outbox_published_total", "Events that the relay has given to the bus")
DEPTH = Gauge(
    "moorage_outbox_depth",
    f"Events that the relay saw waiting at its last look; at most {_BATCH} unless the bus is away",
)
AGE = Gauge("moorage_outbox_oldest_seconds", "Age of the oldest event that the relay saw waiting at its last look")


class Relay:
    """Publishes the outbox until it is cancelled; `poll` bounds the delay when a hint was lost (seconds)."""

    def __init__(self, direct: Direct, bus: Bus, hints: Hints, *, poll: float = 1.0) -> None:
        self._direct = direct
        self._bus = bus
        self._hints = hints
        self._poll = poll

    async def run(self) -> None:
        while True:
            try:
                async with self._direct.connection() as connection:
                    if await connection.fetchval(_TRY_LOCK, _LOCK):
                        await self._publish_for_ever(connection)
            except Exception as error:
                if not is_disconnect(error):
                    raise
                log.warning("relay.database_away", error=repr(error))
            await asyncio.sleep(self._poll)

    async def _publish_for_ever(self, connection: asyncpg.Connection) -> None:
        woken = asyncio.Event()
        # What the bus itself announces is no news here.
        end = self._hints.listen(lambda kind, _: woken.set() if not kind or kind in CONTRACTS else None)
        try:
            while True:
                woken.clear()
                published = 0
                try:
                    while (published := await self._publish_batch(connection)) == _BATCH:
                        pass
                except BusUnavailable as error:
                    log.warning("relay.bus_away", error=str(error))
                    DEPTH.set(await connection.fetchval(_WAITING))
                    await asyncio.sleep(self._poll)
                if published > 1:
                    await asyncio.sleep(_GATHER)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._poll):
                        await woken.wait()
        finally:
            end()
            DEPTH.set(0)
            AGE.set(0)
            # Closed, not given back to the pool: whatever has happened, the lock ends with it.
            with contextlib.suppress(asyncpg.InterfaceError):  # the pool has let go of it already
                connection.terminate()

    async def _publish_batch(self, connection: asyncpg.Connection) -> int:
        rows = await connection.fetch(_DUE, _BATCH)
        DEPTH.set(len(rows))
        AGE.set(max(0.0, (datetime.now(UTC) - rows[0].created_at).total_seconds()) if rows else 0)
        if not rows:
            return 0
        await self._bus.publish(
            [Message(topic=row.topic, key=row.key, event=CloudEvent.model_validate(row.event)) for row in rows]
        )
        await connection.fetch(_REMOVE, [row.id for row in rows])
        PUBLISHED.inc(len(rows))
        DEPTH.set(0)
        AGE.set(0)
        return len(rows)
