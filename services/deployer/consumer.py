"""What wakes the reconciler: events from the bus for certain, hints for speed. An event gives the key, rows decide."""

import asyncio
from collections.abc import Awaitable, Callable

from shared.bus import Bus
from shared.database import Hints
from shared.events import CloudEvent, deployer, gateway

__all__ = ["consume", "listen"]

WAKING = frozenset({deployer.DEPLOYMENT_CHANGED.name, gateway.ROUTE_ENFORCED.name})
"""Not what the reconciler itself has recorded."""

Wake = Callable[[str], None]


def consume(bus: Bus, wake: Wake) -> Callable[[], Awaitable[None]]:
    """Background work: consume the events until cancelled."""

    async def handle(event: CloudEvent) -> None:
        if event.type in WAKING:
            wake(event.subject)

    async def run() -> None:
        topics = [deployer.DEPLOYMENT_CHANGED.topic, gateway.ROUTE_ENFORCED.topic]
        await bus.consume(consumer="deployer", topics=topics, handler=handle)

    return run


def listen(hints: Hints, wake: Wake) -> Callable[[], Awaitable[None]]:
    """Background work: pass hints on until cancelled."""

    def heard(kind: str, subject: str) -> None:
        if kind in WAKING:
            wake(subject)

    async def run() -> None:
        end = hints.listen(heard)
        try:
            await asyncio.Event().wait()
        finally:
            end()

    return run
