"""What wakes the reconciler: hints, which are quick and may be lost, and events, which are sure and a little later."""

import asyncio
from uuid import UUID

from services.gateway.reconciler import Reconciler
from shared.database import is_disconnect
from shared.events import CloudEvent, deployer, gateway
from shared.telemetry import get_logger

log = get_logger(__name__)

# Not our own: what this gateway's API changes it enforces itself, and another gateway's changes come as hints.
TOPICS = ("moorage.deployer",)

_MATTERS = frozenset({deployer.DEPLOYMENT_CHANGED.name, deployer.REPLICAS_CHANGED.name, gateway.CLIENT_CHANGED.name})

_COALESCE = 1.0  # seconds


class Wakes:
    """`hint` for `Hints.listen`, `handle` for the bus; `rescan` runs in the background."""

    def __init__(self, reconciler: Reconciler) -> None:
        self._reconciler = reconciler
        self._missed = asyncio.Event()

    def hint(self, event_type: str, subject: str) -> None:
        if not event_type:
            self._missed.set()
        elif event_type in _MATTERS:
            self._reconciler.wake_uid(UUID(subject))

    async def handle(self, event: CloudEvent) -> None:
        if event.type not in _MATTERS:
            return
        # For what is known the hint was quicker, and this only makes sure: once a second for each id is enough then.
        known = self._reconciler.knows(UUID(event.subject))
        self._reconciler.wake(event.data["id"], after=_COALESCE if known else 0.0)

    async def rescan(self) -> None:
        """Look at everything after the connection for hints was lost: some may have been missed."""
        while True:
            await self._missed.wait()
            self._missed.clear()
            try:
                for deployment in await self._reconciler.stale():
                    self._reconciler.wake(deployment)
            except Exception as error:
                if not is_disconnect(error):
                    raise
                log.warning("rescan.database_away", error=str(error))
                await asyncio.sleep(0.5)
                self._missed.set()
