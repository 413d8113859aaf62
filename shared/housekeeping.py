"""Removes what has served its time, so that no table grows without bound.

Every process tries every hour; an advisory lock lets one of them work. A service adds chores for the tables that it
writes. Left out: dead letters (somebody must look at them) and history (kept for good).
"""

import asyncio
import random
from collections.abc import Iterable
from datetime import timedelta

from prometheus_client import Counter
from sqlalchemy import Delete, delete, func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.database import is_disconnect
from shared.schema import IdempotentRequest, InboxEntry, Lease
from shared.telemetry import get_logger

log = get_logger(__name__)

_LOCK = 0x6B656570  # "keep"

REMOVED = Counter("moorage_housekeeping_removed_total", "Rows that had served their time", ["table"])

SHARED = (
    delete(IdempotentRequest).where(IdempotentRequest.at < func.now() - timedelta(days=1)),
    # For longer than any bus keeps an event that could be delivered again.
    delete(InboxEntry).where(InboxEntry.at < func.now() - timedelta(days=14)),
    delete(Lease).where(Lease.expires_at < func.now() - timedelta(days=1)),
)


class Housekeeping:
    """Runs its chores every `every` seconds until cancelled."""

    def __init__(self, engine: AsyncEngine, chores: Iterable[Delete] = SHARED, *, every: float = 3600.0) -> None:
        self._engine = engine
        self._chores = list(chores)
        self._every = every

    def add(self, chore: Delete) -> None:
        """One more, of the service that writes the table; it must be safe to run at any time."""
        self._chores.append(chore)

    async def run(self) -> None:
        # The services start together; they need not all look at once, nor while everything starts.
        await asyncio.sleep(self._every * random.uniform(0.01, 0.1))  # noqa: S311 - spread, not secret
        while True:
            try:
                await self.tidy()
            except Exception as error:
                if not is_disconnect(error):
                    raise
                log.warning("housekeeping.database_away", error=repr(error))
            await asyncio.sleep(self._every)

    async def tidy(self) -> bool:
        """Do every chore once, each in a transaction of its own; False if another process is at it."""
        for chore in self._chores:
            async with self._engine.begin() as connection:
                if not (await connection.execute(select(func.pg_try_advisory_xact_lock(_LOCK)))).scalar():
                    return False
                removed = (await connection.execute(chore)).rowcount
            REMOVED.labels(chore.table.description).inc(removed)
        return True
