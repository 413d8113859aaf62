"""The work queue against a model, in virtual time."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.reconcile import WorkQueue


class VirtualLoop(asyncio.SelectorEventLoop):
    """Where waiting takes no time."""

    def __init__(self) -> None:
        super().__init__(_Jumping(self))
        self.now = 0.0

    def time(self) -> float:
        return self.now


class _Jumping(selectors.DefaultSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        assert timeout is not None, "nothing will ever happen"
        self._loop.now += max(0.0, timeout)
        return super().select(0)


def in_virtual_time(work: Coroutine[Any, Any, None]) -> None:
    loop = VirtualLoop()
    try:
        loop.run_until_complete(work)
    finally:
        loop.close()


async def take(queue: WorkQueue, within: float = 0.0) -> str | None:
    try:
        async with asyncio.timeout(within + 1e-6):
            return await queue.get()
    except TimeoutError:
        return None


keys = st.sampled_from("abc")
delays = st.sampled_from([0.0, 0.5, 1.0, 7.0])
steps = st.one_of(
    st.tuples(st.just("add"), keys, delays),
    st.tuples(st.just("get")),
    st.tuples(st.just("done"), keys),
    st.tuples(st.just("retry"), keys),
    st.tuples(st.just("wait"), delays),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(steps, max_size=40))
def test_the_model(given_steps: list[tuple[Any, ...]]) -> None:
    async def walk() -> None:
        queue, loop = WorkQueue(backoff=1.0, longest=4.0), asyncio.get_running_loop()
        due: dict[str, float] = {}
        working: set[str] = set()
        failures: dict[str, int] = {}
        for name, *arguments in given_steps:
            match name, arguments:
                case "add", [key, delay]:
                    queue.add(key, delay=delay)
                    due[key] = min(due.get(key, float("inf")), loop.time() + delay)
                case "get", []:
                    ready = {key for key in due if key not in working and due[key] <= loop.time()}
                    got = await take(queue)
                    assert got in ready if ready else got is None or due[got] <= loop.time()
                    if got:
                        assert got not in working, "handed out twice at once"
                        del due[got]
                        working.add(got)
                case "done", [key] if key in working:
                    queue.done(key)
                    working.discard(key)
                    failures.pop(key, None)
                case "retry", [key] if key in working:
                    failures[key] = failures.get(key, 0) + 1
                    delay = min(2.0 ** (failures[key] - 1), 4.0)
                    assert queue.retry(key) == delay
                    working.discard(key)
                    due[key] = min(due.get(key, float("inf")), loop.time() + delay)
                case "wait", [delay]:
                    await asyncio.sleep(delay)
            assert len(queue) == len(due)
        # Nothing is lost: whatever is owed comes, in time.
        for key in list(working):
            queue.done(key)
        for _ in range(len(due)):
            got = await take(queue, within=10)
            assert got is not None
            assert due.pop(got) <= loop.time() + 1e-5
            queue.done(got)
        assert await take(queue, within=10) is None

    in_virtual_time(walk())


def test_several_workers_get_everything_and_no_key_twice_at_once() -> None:
    async def walk() -> None:
        queue, working, counts = WorkQueue(), set[str](), dict[str, int]()

        async def work() -> None:
            while True:
                key = await queue.get()
                assert key not in working
                working.add(key)
                await asyncio.sleep(0.3)
                working.discard(key)
                counts[key] = counts.get(key, 0) + 1
                queue.done(key)

        workers = [asyncio.ensure_future(work()) for _ in range(5)]
        for _ in range(20):
            for key in "abcdefghij":
                queue.add(key)
            await asyncio.sleep(0.2)
        await asyncio.sleep(10)
        assert len(queue) == 0
        assert set(counts) == set("abcdefghij")
        assert all(count > 3 for count in counts.values())
        for worker in workers:
            worker.cancel()
        results = await asyncio.gather(*workers, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results)

    in_virtual_time(walk())


def test_a_worker_that_is_cancelled_while_it_waits_takes_no_key_with_it() -> None:
    async def walk() -> None:
        queue = WorkQueue()
        waiting = asyncio.ensure_future(queue.get())
        await asyncio.sleep(0)
        queue.add("a")
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await take(queue) == "a"

    in_virtual_time(walk())


async def test_what_is_due_since_earlier_goes_ahead_but_not_for_ever() -> None:
    queue = WorkQueue()
    queue.add("waiting", delay=-2.0)
    queue.add("ordinary")
    queue.add("ahead", delay=-1.0)
    assert [await queue.get() for _ in range(3)] == ["waiting", "ahead", "ordinary"]
