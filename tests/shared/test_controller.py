"""The loop around a reconcile function: whatever that does, every key is looked at again."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from shared.database import Direct
from shared.reconcile import Controller, Fence, Leases, Retry, Terminal
from tests.support.waiting import until


async def nothing() -> Iterable[str]:
    return ()


@asynccontextmanager
async def controlling(reconcile: Callable[[str, Fence], Awaitable[None]], **options: Any) -> AsyncIterator[Controller]:
    controller = Controller(**{"name": "test", "resync": nothing, **options}, reconcile=reconcile)
    task = asyncio.ensure_future(controller.run())
    try:
        yield controller
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_key_that_fails_comes_again_and_holds_up_no_other() -> None:
    runs: list[str] = []

    async def reconcile(key: str, _: Fence) -> None:
        runs.append(key)
        if key == "bad" and runs.count("bad") < 3:
            raise ValueError

    async with controlling(reconcile, workers=1) as controller:
        controller.wake("bad")
        controller.wake("good")
        await until(lambda: runs.count("bad") == 3)
    assert runs.index("good") == 1


async def test_a_run_that_hangs_is_cancelled() -> None:
    runs = 0

    async def reconcile(_: str, __: Fence) -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            await asyncio.Event().wait()

    async with controlling(reconcile, workers=1, limit=0.05) as controller:
        controller.wake("x")
        await until(lambda: runs == 2)


async def test_a_cancellation_within_a_run_ends_no_worker() -> None:
    runs = 0

    async def reconcile(_: str, __: Fence) -> None:
        nonlocal runs
        runs += 1
        if runs < 4:
            inner = asyncio.ensure_future(asyncio.Event().wait())
            inner.cancel()
            await inner

    async with controlling(reconcile, workers=1) as controller:
        controller.wake("x")
        await until(lambda: runs == 4)


async def test_retry_comes_again_and_terminal_does_not() -> None:
    runs: list[str] = []

    async def reconcile(key: str, _: Fence) -> None:
        runs.append(key)
        if key == "later" and runs.count(key) < 3:
            raise Retry(0.02)
        if key == "never":
            raise Terminal("said why")

    async with controlling(reconcile) as controller:
        controller.wake("never")
        controller.wake("later")
        await until(lambda: runs.count("later") == 3)
        assert runs.count("never") == 1
        controller.wake("never")
        await until(lambda: runs.count("never") == 2)


async def test_a_resync_finds_what_nobody_told_and_a_failing_one_is_tried_again() -> None:
    runs: list[str] = []
    resyncs = 0

    async def reconcile(key: str, _: Fence) -> None:
        runs.append(key)

    async def resync() -> Iterable[str]:
        nonlocal resyncs
        resyncs += 1
        if resyncs == 1:
            raise ValueError
        return ["forgotten"]

    async with controlling(reconcile, resync=resync, every=0.02):
        await until(lambda: "forgotten" in runs)


async def test_two_processes_never_work_on_one_key_at_once(direct: Direct) -> None:
    working = most = done = 0

    async def reconcile(_: str, __: Fence) -> None:
        nonlocal working, most, done
        working += 1
        most = max(most, working)
        await asyncio.sleep(0.02)
        working -= 1
        done += 1

    one, two = (Leases(direct, owner=owner) for owner in ("one", "two"))
    async with controlling(reconcile, leases=one) as first, controlling(reconcile, leases=two) as second:

        def woken_often_enough() -> bool:
            # Wakes of a key that already waits are one: how many runs they make depends on the machine.
            first.wake("x")
            second.wake("x")
            return done >= 5

        # Each run is four transactions, which take as long as they take on a machine with other work.
        await until(woken_often_enough, within=60)
        # Whoever found it leased looks again.
        await until(lambda: len(first._queue) == len(second._queue) == 0, within=60)
    assert most == 1


async def test_the_heartbeat_keeps_the_lease_through_a_long_run(direct: Direct, admin: asyncpg.Connection) -> None:
    begun, end = asyncio.Event(), asyncio.Event()

    async def reconcile(_: str, __: Fence) -> None:
        begun.set()
        await end.wait()

    leases = Leases(direct, owner="ours", ttl=timedelta(seconds=0.6))
    expires = "SELECT expires_at FROM leases WHERE name = 'test/x'"
    async with controlling(reconcile, leases=leases) as controller:
        controller.wake("x")
        await begun.wait()
        first = await admin.fetchval(expires)
        await until(lambda: admin.fetchval(f"SELECT ({expires}) > $1::timestamptz + interval '0.5 s'", first))
        assert await Leases(direct, owner="theirs").claim("test/x") is None
        end.set()
        await until(lambda: admin.fetchval(f"SELECT ({expires}) < now()"))


async def test_work_is_cancelled_once_another_has_the_lease(direct: Direct, admin: asyncpg.Connection) -> None:
    begun, cancelled = asyncio.Event(), asyncio.Event()
    runs = 0

    async def reconcile(_: str, __: Fence) -> None:
        nonlocal runs
        runs += 1
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    leases = Leases(direct, owner="ours", ttl=timedelta(seconds=0.3))
    async with controlling(reconcile, leases=leases) as controller:
        controller.wake("x")
        await begun.wait()
        theirs = "UPDATE leases SET token = token + 1000, owner = 'theirs', expires_at = now() + interval '1 h'"
        await admin.execute(theirs)
        async with asyncio.timeout(5):
            await cancelled.wait()
        assert await admin.fetchval("SELECT owner FROM leases") == "theirs", "nor is theirs given back"
        assert runs == 1
        await admin.execute("UPDATE leases SET expires_at = now()")
        await until(lambda: runs == 2)


async def test_work_is_cancelled_once_another_could_have_the_lease(
    direct: Direct, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database is out of our reach alone: nobody tells, and the time is over."""
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def reconcile(_: str, __: Fence) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async def away(_: Fence) -> None:
        raise ConnectionError

    leases = Leases(direct, owner="ours", ttl=timedelta(seconds=0.3))
    monkeypatch.setattr(leases, "extend", away)
    async with controlling(reconcile, leases=leases) as controller:
        controller.wake("x")
        await begun.wait()
        async with asyncio.timeout(5):
            await cancelled.wait()


async def test_what_is_at_rest_goes_before_what_is_under_way() -> None:
    runs: list[str] = []
    busy, go_on = asyncio.Event(), asyncio.Event()

    async def reconcile(key: str, _: Fence) -> None:
        if key == "long":
            busy.set()
            await go_on.wait()
        runs.append(key)
        if key.startswith("birth"):
            raise Retry(3600)

    async with controlling(reconcile, workers=1, ahead=60) as controller:
        for number in range(3):
            controller.wake(f"birth-{number}")
        await until(lambda: len(runs) == 3)
        controller.wake("long")
        await busy.wait()
        for number in range(3):
            controller.wake(f"birth-{number}")
        controller.wake("dead replica")
        controller.wake("birth-2", first=True)  # its user has changed it
        go_on.set()
        await until(lambda: len(runs) == 8)
    assert runs[4:] == ["dead replica", "birth-2", "birth-0", "birth-1"]


async def test_who_asks_for_much_waits_for_room() -> None:
    go_on = asyncio.Event()

    async def reconcile(_: str, __: Fence) -> None:
        await go_on.wait()

    async with controlling(reconcile, workers=4) as controller:
        controller.wake("found by itself")
        for key in "ab":
            controller.wake(key, first=True)
        await controller.room(within=3600)  # half of the workers
        controller.wake("c", first=True)
        controller.wake("c", first=True)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await controller.room(within=3600)
        await controller.room(within=0.01)  # nobody waits for longer, whatever hangs
        waiting = asyncio.ensure_future(controller.room(within=3600))
        await asyncio.sleep(0)
        go_on.set()
        await waiting


async def test_what_fails_holds_up_nobody_who_asks() -> None:
    async def reconcile(_: str, __: Fence) -> None:
        raise ValueError

    async with controlling(reconcile, workers=2) as controller:
        for key in "abc":
            controller.wake(key, first=True)
        async with asyncio.timeout(5):
            await controller.room(within=3600)
