"""What wakes the reconciler: events from the bus for certain, hints for speed. An event gives the key, rows decide."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol
from uuid import UUID

from services.deployer.seen import Seen
from shared.bus import Bus
from shared.database import Hints
from shared.events import CloudEvent, deployer, gateway

__all__ = ["consume", "listen"]

WAKING = frozenset({deployer.DEPLOYMENT_CHANGED.name, gateway.ROUTE_ENFORCED.name})
"""Not what the reconciler itself has recorded."""


class Wake(Protocol):
    """`first`: what a user has asked for goes before what has come of it."""

    def __call__(self, key: str, *, first: bool = False) -> None: ...


def consume(bus: Bus, wake: Wake, seen: Callable[[UUID], Seen]) -> Callable[[], Awaitable[None]]:
    """Background work: consume the events until cancelled. What has been `seen` since, woken by a hint, need not be
    looked at again."""

    async def handle(event: CloudEvent) -> None:
        if event.type in WAKING and not seen(UUID(event.subject)).covers(event):
            wake(event.subject, first=event.type == deployer.DEPLOYMENT_CHANGED.name)

    async def run() -> None:
        topics = [deployer.DEPLOYMENT_CHANGED.topic, gateway.ROUTE_ENFORCED.topic]
        await bus.consume(consumer="deployer", topics=topics, handler=handle)

    return run


def listen(hints: Hints, wake: Wake) -> Callable[[], Awaitable[None]]:
    """Background work: pass hints on until cancelled."""

    def heard(kind: str, subject: str) -> None:
        if kind in WAKING:
            wake(subject, first=kind == deployer.DEPLOYMENT_CHANGED.name)

    async def run() -> None:
        end = hints.listen(heard)
        try:
            await asyncio.Event().wait()
        finally:
            end()

    return run
