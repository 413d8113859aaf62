"""Keeps a table equal to what the API server has of one kind: a list, then a watch from there on, for as long as it
runs.

A watch that ends or is cut goes on from the last version that was heard of, by an object or a bookmark. When the server
no longer has what came after that (410: etcd compacted, say), or goes on refusing, everything is listed anew: what has
vanished meanwhile counts as deleted. A list that fails half-way changes nothing. Whatever happens, and however often,
there are pauses between the attempts.
"""

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from typing import Any, Generic

from prometheus_client import Counter, Gauge

from services.deployer.platforms.kubernetes.api import Api, WatchEvent
from services.deployer.platforms.kubernetes.errors import ApiError, Gone, refusal
from services.deployer.platforms.kubernetes.kinds import Kind, Object
from services.deployer.platforms.kubernetes.requests import pauses
from services.deployer.platforms.kubernetes.table import RowT, Table
from services.deployer.platforms.platform import PlatformError
from shared.telemetry import get_logger

log = get_logger(__name__)

LISTS = Counter("moorage_kubernetes_lists_total", "Times that all objects of a kind were listed", ["kind"])
WATCHED = Gauge("moorage_kubernetes_watched", "1 while what is known of a kind is up to date", ["kind"])
WATCHES = Counter("moorage_kubernetes_watches_total", "Watches that have ended, and how", ["kind", "end"])

_SHORT = 1.0  # seconds; a watch that did not live for longer is followed by a pause
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 5.0
_REFUSALS = 5  # in a row, of a watch: then its version may be to blame


class Reflector(Generic[RowT]):
    """`trim` makes a row of an object, or None of one that is not ours."""

    def __init__(
        self,
        api: Api,
        kind: Kind,
        table: Table[RowT],
        trim: Callable[[Object], RowT | None],
        *,
        namespace: str | None = None,
        selector: str = "",
        fields: str = "",
        seconds: int,
    ) -> None:
        self._api = api
        self._kind = kind
        self._table = table
        self._trim = trim
        self._which: Mapping[str, Any] = {"namespace": namespace, "selector": selector, "fields": fields}
        self._seconds = seconds
        self._version = 0  # 0: nothing is known, list
        self._latest = 0  # that was ever heard of
        self.synced = asyncio.Event()
        """Set once everything has been listed; the table is never emptied after that."""
        self.trouble: str | None = None
        """Why there is no watch at the moment, if so."""

    async def run(self) -> None:
        """Until cancelled."""
        waits = pauses(_FIRST_PAUSE, _LONGEST_PAUSE)
        refusals = 0
        while True:
            began, end = time.monotonic(), "done"
            try:
                if not self._version:
                    await self._list()
                await self._watch()
                refusals = 0
            except Gone as error:
                end, self._version = "gone", 0
                log.info("kubernetes.relist", kind=self._kind.plural, reason=str(error))
            except PlatformError as error:
                end = "refused" if isinstance(error, ApiError) else "cut"
                refusals += isinstance(error, ApiError)
                self._fail(str(error))
            except Exception as error:
                end, self._version = "failed", 0
                self._fail(repr(error))
                log.exception("kubernetes.watch_failed", kind=self._kind.plural)
            WATCHES.labels(self._kind.plural, end).inc()
            if refusals >= _REFUSALS:
                refusals, self._version = 0, 0
            if time.monotonic() - began > _SHORT:
                waits = pauses(_FIRST_PAUSE, _LONGEST_PAUSE)
            else:
                await asyncio.sleep(next(waits))

    def learn(self, found: Object) -> None:
        """This was the server's answer to us: nobody has to wait for the watch to say so."""
        version = int(found["metadata"]["resourceVersion"])
        if version > self._version:
            self._put(found)
            self._latest = max(self._latest, version)

    async def _list(self) -> None:
        LISTS.labels(self._kind.plural).inc()
        try:
            rows, version = await self._rows(limit=500)
        except Gone:
            rows, version = await self._rows(limit=0)  # it took too long: page by page it would again
        if version < self._latest:
            # Its data are from a backup: versions of before say nothing any more.
            self._table.replace((), version=self._latest)
            self._latest = 0
        self._table.replace(rows, version=version)
        self._heard(version)
        self.synced.set()

    async def _rows(self, *, limit: int) -> tuple[list[RowT], int]:
        rows: list[RowT] = []
        version = 0
        async for page in self._api.pages(self._kind, limit=limit, **self._which):
            version = int(page.version)
            for found in page.items:
                found.setdefault("kind", self._kind.name)  # in lists it is left out
                if (row := self._row(found)) is not None:
                    rows.append(row)
        return rows, version

    async def _watch(self) -> None:
        seconds = int(self._seconds * random.uniform(0.8, 1.2))  # noqa: S311 - so that not all begin anew at once
        watch = self._api.watch(self._kind, version=str(self._version), seconds=seconds, **self._which)
        async with watch as events:
            if self.trouble is not None:
                log.info("kubernetes.watch_restored", kind=self._kind.plural)
            self.trouble = None
            WATCHED.labels(self._kind.plural).set(1)
            async for event in events:
                self._handle(event)

    def _handle(self, event: WatchEvent) -> None:
        if event.type == "ERROR":
            raise refusal(event.object)
        if event.type == "DELETED":
            self._table.remove(event.object["metadata"]["uid"])
        elif event.type != "BOOKMARK":
            self._put(event.object)
        self._heard(int(event.object["metadata"]["resourceVersion"]))

    def _heard(self, version: int) -> None:
        self._version = version
        self._latest = max(self._latest, version)

    def _put(self, found: Object) -> None:
        if (row := self._row(found)) is not None:
            self._table.put(row)

    def _row(self, found: Object) -> RowT | None:
        try:
            return self._trim(found)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            # One object that is like no other must not hide all others.
            name = (found.get("metadata") or {}).get("name")
            log.exception("kubernetes.object_not_understood", kind=self._kind.plural, name=name, error=repr(error))
            return None

    def _fail(self, trouble: str) -> None:
        if self.trouble is None:
            log.warning("kubernetes.watch_lost", kind=self._kind.plural, error=trouble)
        self.trouble = trouble
        WATCHED.labels(self._kind.plural).set(0)
