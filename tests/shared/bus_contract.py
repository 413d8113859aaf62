"""What every bus promises. An implementation's tests derive `BusContract` and bring the fixture `members`."""

import asyncio
import contextlib
import os
import signal
import sys
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Protocol
from uuid import uuid4

from shared.bus import Bus, Message
from shared.bus.replay import replay
from shared.errors import Unavailable
from shared.events import CloudEvent, gateway, new_event
from tests.support.waiting import until

TOPIC = "moorage.gateway"


class Members(Protocol):
    """How the contract meets an implementation."""

    def join(self, *, attempts: int = 3, lease: float = 10.0) -> Bus:
        """A bus as one more process has it."""

    @property
    def environment(self) -> dict[str, str]:
        """For `tests.shared.crashing_member`."""


def message(key: str, number: int = 0) -> Message:
    event = new_event(gateway.CLIENT_CHANGED, key, {"id": key, "client": str(number)}, event_id=str(uuid4()))
    return Message(topic=TOPIC, key=key, event=event)


@asynccontextmanager
async def consuming(
    bus: Bus, handler: Callable[[CloudEvent], Awaitable[None]], consumer: str = "us"
) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(bus.consume(consumer=consumer, topics=[TOPIC], handler=handler))
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def dead_letters(bus: Bus, consumer: str = "us") -> list[tuple[str, str]]:
    """Pairs of event id and cause."""
    return [(letter.event["id"], letter.cause) for letter in await bus.dead_letters() if letter.consumer == consumer]


class Seen:
    """A handler that notes what it was given."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.numbers: dict[str, list[int]] = defaultdict(list)

    async def __call__(self, event: CloudEvent) -> None:
        await asyncio.sleep(0)
        self.ids.append(event.id)
        self.numbers[event.subject].append(int(event.data["client"]))


class BusContract:
    async def test_an_event_arrives_as_it_was_sent(self, members: Members) -> None:
        bus, got = members.join(), []

        async def handler(event: CloudEvent) -> None:
            got.append(event)

        sent = message("churn", 7)
        async with consuming(bus, handler):
            await bus.publish([sent])
            await until(lambda: got)
        assert got == [sent.event]

    async def test_competing_members_share_the_work_and_keep_the_order_of_each_key(self, members: Members) -> None:
        seen, busy, done_by = Seen(), set[str](), Counter[str]()

        def handler(member: str) -> Callable[[CloudEvent], Awaitable[None]]:
            async def handle(event: CloudEvent) -> None:
                assert event.subject not in busy, "two members work on one key"
                busy.add(event.subject)
                await asyncio.sleep(0.001)
                await seen(event)
                busy.discard(event.subject)
                done_by[member] += 1

            return handle

        publisher = members.join()
        async with consuming(members.join(), handler("a")), consuming(members.join(), handler("b")):
            rounds = 0
            while rounds < 15 or set(done_by) != {"a", "b"}:
                await publisher.publish([message(f"key-{key}", rounds) for key in range(20)])
                rounds += 1
                await until(lambda: len(seen.ids) >= rounds * 20, within=20)  # noqa: B023 - called at once
                assert rounds < 200, "one member does all the work"
        assert all(numbers == list(range(rounds)) for numbers in seen.numbers.values())

    async def test_every_group_gets_every_event_from_the_oldest_on(self, members: Members) -> None:
        bus, first, second = members.join(), Seen(), Seen()
        await bus.publish([message("churn", number) for number in range(5)])
        async with consuming(bus, first, "first"):
            await until(lambda: len(first.ids) == 5)
        async with consuming(bus, second, "second"):
            await until(lambda: len(second.ids) == 5)
        assert first.numbers == second.numbers == {"churn": [0, 1, 2, 3, 4]}

    async def test_a_group_goes_on_where_it_was(self, members: Members) -> None:
        bus, seen = members.join(), Seen()
        async with consuming(bus, seen):
            await bus.publish([message("churn", 1)])
            await until(lambda: len(seen.ids) == 1)
        await bus.publish([message("churn", 2)])
        async with consuming(members.join(), seen):
            await until(lambda: len(seen.ids) >= 2)
        assert seen.numbers["churn"] == [1, 2]

    async def test_what_was_handled_before_a_cancellation_does_not_come_again(self, members: Members) -> None:
        bus, seen, reached = members.join(), Seen(), asyncio.Event()

        async def stuck_at_three(event: CloudEvent) -> None:
            if event.data["client"] == "3":
                reached.set()
                await asyncio.Event().wait()
            await seen(event)

        await bus.publish([message("churn", number) for number in range(6)])
        async with consuming(bus, stuck_at_three):
            await reached.wait()
        async with consuming(members.join(), seen):
            await until(lambda: len(seen.ids) >= 6)
        assert seen.numbers["churn"] == [0, 1, 2, 3, 4, 5]

    async def test_a_member_killed_while_it_handles_loses_nothing(self, members: Members) -> None:
        bus, seen = members.join(), Seen()
        sent = [message("churn", number) for number in range(3)]
        await bus.publish(sent)
        argv = [sys.executable, "-m", "tests.shared.crashing_member"]
        child = await asyncio.create_subprocess_exec(*argv, env={**os.environ, **members.environment})
        assert await asyncio.wait_for(child.wait(), 30) == -signal.SIGKILL
        async with consuming(members.join(), seen):
            await until(lambda: seen.numbers["churn"][-3:] == [0, 1, 2], within=20)

    async def test_an_event_that_cannot_be_handled_holds_up_nobody(self, members: Members) -> None:
        bus, seen, tried = members.join(attempts=3), Seen(), 0

        async def handler(event: CloudEvent) -> None:
            nonlocal tried
            if event.data["client"] == "13":
                tried += 1
                raise ValueError("unlucky")
            await seen(event)

        poison = message("churn", 13)
        await bus.publish([poison, message("churn", 14), message("other", 1)])
        async with consuming(bus, handler):
            await until(lambda: len(seen.ids) == 2)
        assert tried == 3
        assert await dead_letters(bus) == [(poison.event.id, "ValueError('unlucky')")]

    async def test_an_outage_is_waited_out_and_buries_nothing(self, members: Members) -> None:
        bus, seen, tried = members.join(attempts=1), Seen(), 0

        async def handler(event: CloudEvent) -> None:
            nonlocal tried
            tried += 1
            if tried < 3:
                raise Unavailable("the registry is away")
            await seen(event)

        await bus.publish([message("churn")])
        async with consuming(bus, handler):
            await until(lambda: seen.ids)
        assert (tried, await dead_letters(bus)) == (3, [])

    async def test_a_handler_that_hangs_is_ended(self, members: Members) -> None:
        bus, seen = members.join(attempts=1, lease=0.6), Seen()

        async def handler(event: CloudEvent) -> None:
            if event.data["client"] == "1":
                await asyncio.Event().wait()
            await seen(event)

        await bus.publish([message("churn", 1), message("churn", 2)])
        async with consuming(bus, handler):
            await until(lambda: seen.numbers["churn"] == [2])
        assert [cause for _, cause in await dead_letters(bus)] == ["took longer than 0.3 s"]

    async def test_a_handler_whose_own_task_is_cancelled_does_not_end_the_member(self, members: Members) -> None:
        bus, seen = members.join(attempts=1), Seen()

        async def handler(event: CloudEvent) -> None:
            if event.data["client"] == "1":
                waiting = asyncio.ensure_future(asyncio.Event().wait())
                waiting.cancel()
                await waiting
            await seen(event)

        await bus.publish([message("churn", 1), message("churn", 2)])
        async with consuming(bus, handler) as task:
            await until(lambda: seen.numbers["churn"] == [2])
            assert not task.done()

    async def test_a_dead_letter_that_is_replayed_reaches_the_consumer_that_failed_and_no_other(
        self, members: Members
    ) -> None:
        bus, mended, others = members.join(attempts=1), Seen(), Seen()
        healthy = False

        async def handler(event: CloudEvent) -> None:
            if not healthy:
                raise ValueError("not yet")
            await mended(event)

        poison = message("churn", 1)
        await bus.publish([poison])
        async with consuming(bus, handler), consuming(members.join(), others, "others"):
            await until(lambda: dead_letters(bus))
            await until(lambda: others.ids)
            healthy = True
            letters = await bus.dead_letters()
            await replay(bus, letters)
            await bus.settle(letters)
            await until(lambda: mended.ids == [poison.event.id])
            await bus.publish([message("churn", 2)])
            await until(lambda: mended.numbers["churn"] == [1, 2])
            await until(lambda: others.numbers["churn"] == [1, 2])
        assert await dead_letters(bus) == []

    async def test_the_lag_is_what_a_group_has_still_to_handle(self, members: Members) -> None:
        bus, seen = members.join(), Seen()
        async with consuming(bus, seen):
            await bus.publish([message("churn")])
            await until(lambda: seen.ids)
            async with asyncio.timeout(10):  # handled comes before noted
                while await bus.lag("us", [TOPIC]):  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(0.01)
        await bus.publish([message("churn", number) for number in range(5)])
        assert await bus.lag("us", [TOPIC]) == 5
