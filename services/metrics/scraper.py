"""Asks one Envoy at a steady beat what it has counted, and has the difference stored.

One process works on an Envoy at a time: whoever has the advisory lock of its address. The lock belongs to the very
connection that writes, so who has lost it cannot write either. A process that is killed at any point has stored both
samples and reading or neither, and the next one goes on from there: nothing is lost or counted twice.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from hashlib import sha256
from typing import TypeVar

from prometheus_client import Counter, Gauge, Histogram
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.metrics import commands
from services.metrics.commands import Source
from services.metrics.envoy import Admin, Reading, Unreadable
from services.metrics.increments import increments
from shared.database import is_disconnect
from shared.telemetry import get_logger

__all__ = ["Scraper"]

log = get_logger(__name__)

SCRAPES = Counter("moorage_scrapes_total", "Times that an Envoy was asked for its counts", ["envoy", "result"])
SECONDS = Histogram("moorage_scrape_seconds", "Time to ask an Envoy and to store what it counted", ["envoy"])
LAST = Gauge("moorage_scrape_last_success_timestamp_seconds", "When an Envoy's counts were last stored", ["envoy"])

_MANY = 1000
"""Series from which on comparing them is no work for the event loop."""

T = TypeVar("T")


class Scraper:
    def __init__(self, engine: AsyncEngine, admin: Admin, *, every: float) -> None:
        self._engine = engine
        self._admin = admin
        self._every = every

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            try:
                async with self._engine.connect() as connection:
                    if await self._lock(connection):
                        await self._scrape_for_ever(connection)
            except Exception as error:
                if not is_disconnect(error):
                    raise
                log.warning("scrape.database_away", envoy=self._admin.url, error=str(error))
            await self._beat()

    async def _scrape_for_ever(self, connection: AsyncConnection) -> None:
        log.info("scrape.started", envoy=self._admin.url)
        try:
            async with connection.begin():
                last = await commands.load_source(connection, self._admin.url)
            while True:
                await self._beat()
                last = await self._scrape(connection, last)
        finally:
            # The connection goes back to the pool: the lock must not go with it.
            with contextlib.suppress(Exception):
                await connection.rollback()
                await connection.execute(select(func.pg_advisory_unlock(self._key)))
                await connection.commit()

    async def _scrape(self, connection: AsyncConnection, last: Source | None) -> Source | None:
        """What the samples hold of the Envoy afterwards."""
        started = time.perf_counter()
        try:
            reading = await self._admin.read()
            added = await self._beside(reading, lambda: increments(last.reading if last else None, reading))
        except Unreadable as error:
            # The next answer has it all.
            SCRAPES.labels(self._admin.url, "unreadable").inc()
            log.warning("scrape.unreadable", envoy=self._admin.url, error=str(error))
            return last
        restarted = last is not None and last.reading.incarnation != reading.incarnation
        if restarted:
            log.info("scrape.envoy_restarted", envoy=self._admin.url, incarnation=reading.incarnation)
        if added or restarted:
            packed = await self._beside(reading, lambda: commands.pack(reading))
            async with connection.begin():
                at = await commands.store(
                    connection,
                    url=self._admin.url,
                    reading=reading,
                    packed=packed,
                    added=added,
                    since=last.scraped_at if last else None,
                )
            last = Source(reading, at)
        SCRAPES.labels(self._admin.url, "ok").inc()
        SECONDS.labels(self._admin.url).observe(time.perf_counter() - started)
        LAST.labels(self._admin.url).set_to_current_time()
        return last

    async def _beside(self, reading: Reading, work: Callable[[], T]) -> T:
        """Do it on another thread if it would hold up the event loop."""
        return work() if len(reading.series) < _MANY else await asyncio.to_thread(work)

    async def _lock(self, connection: AsyncConnection) -> bool:
        async with connection.begin():
            return bool((await connection.execute(select(func.pg_try_advisory_lock(self._key)))).scalar())

    @property
    def _key(self) -> int:
        return int.from_bytes(sha256(f"scrape {self._admin.url}".encode()).digest()[:8], signed=True)

    async def _beat(self) -> None:
        """Wait for the middle of the clock's next period: so each period has one sample, whatever jitter there is."""
        now = time.time() / self._every
        await asyncio.sleep((int(now + 0.5) + 0.5 - now) * self._every)
