"""How far a consumer group is behind, as a metric.

Each of its members measures the whole group, so `max by (consumer)` is the figure.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from prometheus_client import Gauge

from shared.bus import BusUnavailable
from shared.bus.cancelled import cancelled
from shared.database import is_disconnect

LAG = Gauge("moorage_bus_lag", "Events that a consumer group has still to handle", ["consumer"])

_EVERY = 10.0


@contextlib.asynccontextmanager
async def measured(consumer: str, lag: Callable[[], Awaitable[int]], *, every: float = _EVERY) -> AsyncIterator[None]:
    """Keep the metric of `consumer` up to date meanwhile; while the bus is away it stays at what it was."""

    async def measure() -> None:
        while not cancelled():
            try:
                LAG.labels(consumer=consumer).set(await lag())
            except Exception as error:
                if not (isinstance(error, BusUnavailable) or is_disconnect(error)):
                    raise
            await asyncio.sleep(every)

    task = asyncio.create_task(measure(), name=f"lag of {consumer}")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        with contextlib.suppress(KeyError):
            LAG.remove(consumer)
