"""What wakes the reconciler: events from the bus for certain, hints for speed. An event gives the key, rows decide."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from shared.bus import Bus
from shared.database import Hints
from shared.events import CloudEvent, deployer, gateway

__all__ = ["consume", "listen"]

WAKING = frozenset({deployer.DEPLOYMENT_CHANGED.name, gateway.ROUTE_ENFORCED.name})
"""Not what the reconciler itself has recorded."""

AHEAD = 1.0
"""Seconds by which what a user has asked for goes before what has come of it: a crowd of births must not make each
wait until those before it are ready, nor may it hold up a replica that dies for longer than that."""


class Wake(Protocol):
    def __call__(self, key: str, *, after: float = 0.0) -> None: ...


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
            wake(subject, after=-AHEAD if kind == deployer.DEPLOYMENT_CHANGED.name else 0.0)

    async def run() -> None:
        end = hints.listen(heard)
        try:
            await asyncio.Event().wait()
        finally:
            end()

    return run
