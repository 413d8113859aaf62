"""Removes bytes that nobody needs any more, and what crashes have left.

A row first, then its bytes: the row is taken in a transaction that holds it, so whoever registers a version of these
bytes at the same moment has either committed, and they stay, or finds them gone and is told to upload them again. Bytes
without a row are removed once they are old enough not to be those of an upload that is just being recorded.
"""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from prometheus_client import Counter

from services.registry.artifacts import commands, partials, queries
from services.registry.artifacts.partials import Partials
from services.registry.artifacts.storage import Storage
from shared.database import Sessions, is_disconnect
from shared.telemetry import get_logger

log = get_logger(__name__)

COLLECTED = Counter("moorage_blobs_collected_total", "Blobs that nobody needed any more", ["why"])

_BATCH = 500
"""Rows looked at in one transaction; at most so many are held at once."""
_ORPHAN_AGE = timedelta(hours=24)


@dataclass(frozen=True)
class Collector:
    """`unused_for`: how long bytes that no version consists of are kept after they were uploaded, and resumable uploads
    after they were last touched."""

    sessions: Sessions
    storage: Storage
    partials: Partials
    unused_for: timedelta
    every: timedelta

    async def run(self) -> None:
        """Until cancelled. Several registries may do it at once."""
        while True:
            await asyncio.sleep(self.every.total_seconds())
            try:
                await self.collect()
            except Exception as error:
                if not (is_disconnect(error) or isinstance(error, OSError)):
                    raise
                log.warning("collector.away", error=repr(error))

    async def collect(self) -> None:
        await self._unneeded()
        await self._orphans()
        await self._abandoned()

    async def _unneeded(self) -> None:
        beyond: str | None = ""
        while beyond is not None:
            async with self.sessions.begin() as session:
                digests, beyond = await queries.collectable(
                    session, beyond=beyond, unused_for=self.unused_for, limit=_BATCH
                )
                places = await commands.forget(session, digests, unused_for=self.unused_for) if digests else []
            for place in places:
                await self.storage.remove(place)
            if places:
                log.info("blobs.collected", count=len(places))
                COLLECTED.labels("unneeded").inc(len(places))

    async def _orphans(self) -> None:
        """Bytes in the storage that no row names."""
        old: dict[str, str] = {}
        async for place, since in self.storage.places():
            if datetime.now(UTC) - since > _ORPHAN_AGE:
                old[place] = "sha256:" + place.rpartition("/")[2].partition(".")[0]
            if len(old) >= _BATCH:
                await self._remove_orphans(old)
                old.clear()
        await self._remove_orphans(old)

    async def _remove_orphans(self, places: dict[str, str]) -> None:
        async with self.sessions() as session:
            named = await queries.places(session, set(places.values()))
        for place in places.keys() - named:
            await self.storage.remove(place)
            COLLECTED.labels("orphan").inc()
            log.info("blobs.orphan_removed", place=place)

    async def _abandoned(self) -> None:
        """Resumable uploads that nobody goes on with."""
        async with self.sessions.begin() as session:
            abandoned = await partials.abandon(session, untouched_for=self.unused_for)
        for upload in abandoned:
            await self.partials.discard(upload)
        await self.partials.sweep(older_than=self.unused_for + _ORPHAN_AGE)
