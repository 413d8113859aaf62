"""The loop around a reconcile function: workers, leases with heartbeat, backoff, resync, metrics."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

from prometheus_client import Counter, Gauge, Histogram

from shared.database import is_disconnect
from shared.reconcile.lease import Fence, LeaseLost, Leases
from shared.reconcile.queue import WorkQueue
from shared.telemetry import get_logger

log = get_logger(__name__)

RUNS = Counter("moorage_reconcile_runs_total", "Reconciled keys by result", ["controller", "result"])
SECONDS = Histogram("moorage_reconcile_seconds", "Time that one key took", ["controller"])
WAITING = Gauge("moorage_reconcile_waiting", "Keys that wait for a worker", ["controller"])


class Retry(Exception):
    """Not yet: look at the key again after `after` seconds. Not a failure: the backoff does not grow."""

    def __init__(self, after: float) -> None:
        super().__init__(after)
        self.after = after


class _Leased(Retry):
    """Another process works on the key; it may die, so look again."""


class Terminal(Exception):
    """This key cannot be brought further until something changes; the reason has been recorded."""


Reconcile = Callable[[str, Fence], Awaitable[None]]
"""Bring one key to what the rows say: load, act, record (checking the fence in the recording transaction)."""


class Controller:
    """Reconciles keys until cancelled. `resync` lists the keys that may need work, every `every` seconds.

    A key that is at rest goes before those that are under way (which asked to be looked at again) and have not waited
    for `ahead` seconds yet. Without `leases` every process works for itself (as gateways do, each for its own Envoys)
    and the fence is void. A run that takes longer than `limit` seconds is cancelled and counts as failed.
    """

    def __init__(
        self,
        *,
        name: str,
        reconcile: Reconcile,
        resync: Callable[[], Awaitable[Iterable[str]]],
        leases: Leases | None = None,
        workers: int = 4,
        every: float = 30.0,
        limit: float = 300.0,
        ahead: float = 0.0,
    ) -> None:
        self._name = name
        self._reconcile = reconcile
        self._resync = resync
        self._leases = leases
        self._workers = workers
        self._every = every
        self._limit = limit
        self._ahead = ahead
        self._queue = WorkQueue()
        self._under_way: set[str] = set()
        self._asked: set[str] = set()
        self._worked = asyncio.Condition()

    def wake(self, key: str, *, after: float = 0.0, first: bool = False) -> None:
        """Something about `key` may have changed, or will have `after` that many seconds. `first`: somebody has asked
        for it, so treat it as one that is at rest."""
        if first:
            self._asked.add(key)
        ahead = 0.0 if key in self._under_way and not first else self._ahead
        self._queue.add(key, delay=after or -ahead)
        WAITING.labels(self._name).set(len(self._queue))

    async def room(self, *, within: float) -> None:
        """Return once no more of what somebody has asked for is still to be worked on than half of the workers take,
        or `within` that many seconds. So who asks for much waits here, and not each key in the queue for all before."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within), self._worked:
                await self._worked.wait_for(lambda: len(self._asked) <= self._workers // 2)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._scan())
            for _ in range(self._workers):
                tasks.create_task(self._work())

    async def _scan(self) -> None:
        while True:
            try:
                for key in await self._resync():
                    self._queue.add(key)
            except Exception as error:
                if not is_disconnect(error):
                    log.exception("resync.failed", controller=self._name)
                await asyncio.sleep(min(1.0, self._every))
                continue
            await asyncio.sleep(self._every)

    async def _work(self) -> None:
        while True:
            key = await self._queue.get()
            WAITING.labels(self._name).set(len(self._queue))
            with SECONDS.labels(self._name).time():
                result = await self._one(key)
            RUNS.labels(self._name, result).inc()
            if key in self._asked:
                self._asked.remove(key)
                async with self._worked:
                    self._worked.notify_all()

    async def _one(self, key: str) -> str:
        """Work on `key`, then give it back to the queue; how it went."""
        try:
            async with self._claimed(key) as fence, asyncio.timeout(self._limit):
                await self._reconcile(key, fence)
        except Retry as again:
            if not isinstance(again, _Leased):
                self._under_way.add(key)
            self._queue.done(key)
            self._queue.add(key, delay=again.after)
            return "leased" if isinstance(again, _Leased) else "again"
        except Terminal as end:
            log.info("reconcile.terminal", controller=self._name, key=key, reason=str(end))
        except asyncio.CancelledError as error:
            if (task := asyncio.current_task()) and task.cancelling():
                raise
            return self._failed(key, error)  # not we were cancelled but something that the reconcile function awaited
        except Exception as error:
            return self._failed(key, error)
        else:
            self._under_way.discard(key)
            self._queue.done(key)
            return "done"
        self._under_way.discard(key)
        self._queue.done(key)
        return "terminal"

    def _failed(self, key: str, error: BaseException) -> str:
        delay = self._queue.retry(key)
        if isinstance(error, LeaseLost):
            return "lease_lost"
        if is_disconnect(error):
            log.warning("reconcile.away", controller=self._name, key=key, delay=delay, error=repr(error))
        else:
            log.error("reconcile.failed", controller=self._name, key=key, delay=delay, exc_info=error)
        return "failed"

    @contextlib.asynccontextmanager
    async def _claimed(self, key: str) -> AsyncIterator[Fence]:
        name = f"{self._name}/{key}"
        if self._leases is None:
            yield Fence(name, 0)
            return
        began = asyncio.get_running_loop().time()
        fence = await self._leases.claim(name)
        if fence is None:
            raise _Leased(1.0)
        try:
            async with asyncio.timeout(None) as held:
                heartbeat = asyncio.create_task(self._beat(self._leases, fence, held, since=began))
                try:
                    yield fence
                finally:
                    heartbeat.cancel()
                    await asyncio.gather(heartbeat, return_exceptions=True)
        except TimeoutError:
            if held.expired():
                raise LeaseLost(name) from None
            raise
        finally:
            with contextlib.suppress(Exception):  # it ends by itself
                await self._leases.release(fence)

    async def _beat(self, leases: Leases, fence: Fence, held: asyncio.Timeout, *, since: float) -> None:
        """Extend the lease for as long as it is ours. Once another may have it, the work under way is cancelled: its
        writes are fenced anyway, what it does to the world is not."""
        loop, ttl = asyncio.get_running_loop(), leases.ttl.total_seconds()
        while True:
            held.reschedule(since + ttl)
            await asyncio.sleep(ttl / 3)
            now = loop.time()
            try:
                await leases.extend(fence)
            except LeaseLost:
                held.reschedule(now)
                return
            except Exception as error:
                log.warning("lease.not_extended", name=fence.name, error=str(error))
            else:
                since = now
