"""A deployer and a data plane for a platform under test: they act when the platform wakes them, and never look again
by themselves. So what converges here does so without a resync."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from uuid import UUID

from services.deployer.platforms import Phase, PlatformError, Replica, Workload
from services.deployer.platforms.kubernetes.platform import KubernetesPlatform


@dataclass
class Deployer:
    """`lag`: seconds until the data plane has acknowledged what it is told."""

    platform: KubernetesPlatform
    lag: float = 0.02
    wanted: dict[UUID, Workload] = field(default_factory=dict)
    told: dict[UUID, frozenset[str]] = field(default_factory=dict)
    routed: dict[UUID, frozenset[str]] = field(default_factory=dict)
    woken: int = 0

    async def want(self, workload: Workload) -> None:
        self.wanted[workload.uid] = workload
        await self.reconcile(workload.uid)

    async def reconcile(self, uid: UUID) -> None:
        """As the real one does: apply, observe, tell the data plane."""
        told, routed = self.told.get(uid, frozenset()), self.routed.get(uid, frozenset())
        if (workload := self.wanted.get(uid)) is None:
            return
        try:
            await self.platform.apply(replace(workload, keep=told | routed, serving=told & routed))
        except PlatformError:
            asyncio.get_running_loop().call_later(0.5, self._again, uid)
        self.told[uid] = frozenset(r.id for r in await self.platform.observe(uid) if r.phase is Phase.READY)
        if not self.told[uid] == told == routed == self.routed.get(uid, frozenset()):
            asyncio.get_running_loop().call_later(self.lag, self._acknowledge, uid, self.told[uid])

    def _acknowledge(self, uid: UUID, told: frozenset[str]) -> None:
        self.routed[uid] = told
        self._again(uid)

    def _again(self, uid: UUID) -> None:
        self._ready.put_nowait(uid)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Deployer"]:
        self._ready: asyncio.Queue[UUID] = asyncio.Queue()
        tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._work())]
        try:
            yield self
        finally:
            for task in tasks:
                task.cancel()
            for task in tasks:
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    async def _listen(self) -> None:
        async for uid in self.platform.watch():
            self.woken += 1
            self._again(uid)

    async def _work(self) -> None:
        while True:
            await self.reconcile(await self._ready.get())

    async def until(self, uid: UUID, holds: Callable[[list[Replica]], bool], *, within: float = 30.0) -> list[Replica]:
        end = asyncio.get_running_loop().time() + within
        while not holds(found := await self.platform.observe(uid)):
            assert asyncio.get_running_loop().time() < end, found
            await asyncio.sleep(0.02)
        return found

    async def serves(self, workload: Workload, *, within: float = 30.0) -> list[Replica]:
        """Until all that is wanted of it, and nothing else, is in service."""

        def holds(found: list[Replica]) -> bool:
            good = {r.id for r in found if r.template_digest == workload.template.digest and r.phase is Phase.READY}
            return len(good) == len(found) == workload.replicas and self.routed.get(workload.uid) == good

        return await self.until(workload.uid, holds, within=within)
