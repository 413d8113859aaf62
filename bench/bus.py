"""What the way of an event costs: change → outbox → relay → bus → handler done, against a bare aiokafka client.

    python -m bench.bus [--events 5000] [--writers 16] [--rounds 5]

Everything of one measurement runs in this process, on uvloop as the services do; PostgreSQL and Kafka are real,
PostgreSQL flushes to disk. Bare and ours take turns; medians of the rounds' ratios are the figures.

- `sent`: a bare producer is handed all events and waited for in the end, while a bare consumer reads them.
- `drained`: what has piled up in the outbox goes over relay and bus to the handler; to be compared with `sent`.
- `acknowledged`: each of the bare writers waits for its event before it sends the next, as whoever makes a change does.
- `committed`: each writer commits one row in a transaction of its own, without an event; what a change costs anyway.
- `made`: each writer commits one event in a transaction of its own, while relay, bus and handler take them.
"""

import argparse
import asyncio
import contextlib
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from uuid import uuid4

import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from sqlalchemy import insert

from bench.http import database
from shared import outbox
from shared.bus import Bus, Message
from shared.bus.cloudevents import encode
from shared.bus.kafka import Cluster, KafkaBus
from shared.bus.postgres import PostgresBus
from shared.database import Direct, Hints, Sessions, create_engine, create_sessions
from shared.events import CloudEvent, deployer, new_event
from shared.outbox import first_delivery
from shared.schema import OutboxEntry
from tests.servers import kafka

TOPIC = "moorage.deployer"
KEYS = 100
LONE = 300  # events that are sent one after the other, for the latency

Step = Callable[[int], Awaitable[None]]


def make(number: int) -> Message:
    key = f"key-{number % KEYS}"
    event = new_event(deployer.DEPLOYMENT_CHANGED, key, {"id": key, "group": "risk", "generation": number})
    return Message(topic=TOPIC, key=key, event=event)


class Arrivals:
    """The handler: counts, and says when all are there."""

    def __init__(self) -> None:
        self._left = 0
        self._done = asyncio.Event()

    def expect(self, events: int) -> None:
        self._left = events
        self._done.clear()

    def arrived(self, events: int = 1) -> None:
        self._left -= events
        if self._left <= 0:
            self._done.set()

    async def handle(self, _: CloudEvent) -> None:
        self.arrived()

    async def all(self) -> None:
        async with asyncio.timeout(300):
            await self._done.wait()


async def by_writers(step: Step, *, events: int, writers: int) -> None:
    """Each writer makes its share, one after the other."""
    numbers = iter(range(events))

    async def write() -> None:
        for number in numbers:
            await step(number)

    await asyncio.gather(*(write() for _ in range(writers)))


async def rate(events: int, arrivals: Arrivals, work: Callable[[], Awaitable[None]]) -> float:
    arrivals.expect(events)
    started = time.perf_counter()
    await work()
    await arrivals.all()
    return events / (time.perf_counter() - started)


async def latency(step: Step, arrivals: Arrivals | None = None) -> float:
    """The median in milliseconds, to the end of `step` or to the handler's."""
    took = []
    for number in range(LONE):
        if arrivals:
            arrivals.expect(1)
        started = time.perf_counter()
        await step(number)
        if arrivals:
            await arrivals.all()
        took.append(time.perf_counter() - started)
    return statistics.median(took) * 1000


@asynccontextmanager
async def background(work: Awaitable[None]) -> AsyncIterator[None]:
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


Figures = dict[str, float]
Round = Callable[[], Awaitable[Figures]]


@asynccontextmanager
async def bare(cluster: Cluster, *, events: int, writers: int) -> AsyncIterator[Round]:
    topic, arrivals = cluster.name(TOPIC), Arrivals()
    await cluster.prepare([TOPIC])
    producer = AIOKafkaProducer(enable_idempotence=True, acks="all", **cluster.client())
    consumer = AIOKafkaConsumer(topic, group_id=cluster.name("bare"), auto_offset_reset="earliest", **cluster.client())

    async def consume() -> None:
        while True:
            found = await consumer.getmany(timeout_ms=1000)
            arrivals.arrived(sum(map(len, found.values())))

    async def send(number: int) -> asyncio.Future[object]:
        message = make(number)
        headers, value = encode(message.event)
        future: asyncio.Future[object] = await producer.send(topic, value, key=message.key.encode(), headers=headers)
        return future

    async def send_and_wait(number: int) -> None:
        await (await send(number))

    async def send_all() -> None:
        await asyncio.gather(*[await send(number) for number in range(events)])

    async def measured() -> Figures:
        paced = partial(by_writers, send_and_wait, events=events, writers=writers)
        return {
            "sent": await rate(events, arrivals, send_all),
            "acknowledged": await rate(events, arrivals, paced),
            "send_and_wait": await latency(send_and_wait),
        }

    async with producer, consumer, background(consume()):
        yield measured


@asynccontextmanager
async def ours(
    bus: Bus, direct: Direct, sessions: Sessions, hints: Hints, *, events: int, writers: int
) -> AsyncIterator[Round]:
    arrivals = Arrivals()

    async def change(number: int) -> None:
        message = make(number)
        async with sessions.begin() as session:
            await outbox.append(session, deployer.DEPLOYMENT_CHANGED, message.key, **message.event.data)

    async def pile_up() -> None:
        rows = [
            {"topic": each.topic, "key": each.key, "event": each.event.model_dump(mode="json", exclude_none=True)}
            for each in map(make, range(events))
        ]
        async with sessions.begin() as session:
            await session.execute(insert(OutboxEntry), rows)

    def relay() -> Awaitable[None]:
        return outbox.Relay(direct, bus, hints).run()

    async def drain() -> None:
        async with background(relay()):
            await arrivals.all()

    async def measured() -> Figures:
        async with background(relay()):
            changes = partial(by_writers, change, events=events, writers=writers)
            made = await rate(events, arrivals, changes)
            took = await latency(change, arrivals)
        await pile_up()
        return {"made": made, "latency": took, "drained": await rate(events, arrivals, drain)}

    async with background(bus.consume(consumer="bench", topics=[TOPIC], handler=arrivals.handle)):
        yield measured
    await bus.close()


async def commits(sessions: Sessions, *, events: int, writers: int) -> float:
    async def commit(_: int) -> None:
        async with sessions.begin() as session:
            await first_delivery(session, consumer="bench", event_id=str(uuid4()))

    started = time.perf_counter()
    await by_writers(commit, events=events, writers=writers)
    return events / (time.perf_counter() - started)


async def measure(url: str, address: str, *, events: int, writers: int, rounds: int) -> None:
    engine = create_engine(url, application="bench", connections=writers)
    sessions, hints = create_sessions(engine), Hints(url)
    direct = Direct(url, application="bench", connections=6)
    await direct.open()
    await hints.start()
    buses: dict[str, Bus] = {
        "Kafka": KafkaBus(Cluster(servers=[address], prefix="ours.")),
        "PostgreSQL": PostgresBus(direct, hints),
    }
    for name, bus in buses.items():
        async with (
            bare(Cluster(servers=[address], prefix=f"beside-{name}."), events=events, writers=writers) as plain,
            ours(bus, direct, sessions, hints, events=events, writers=writers) as whole,
        ):
            await plain(), await whole()  # to warm up
            results: list[tuple[Figures, Figures]] = []
            for _ in range(rounds):
                committed = await commits(sessions, events=events, writers=writers)
                results.append((await plain() | {"committed": committed}, await whole()))
        report(name, results)
    await hints.stop()
    await direct.close()
    await engine.dispose()


def report(name: str, results: Sequence[tuple[Figures, Figures]]) -> None:
    def median(of: Callable[[Figures, Figures], float]) -> float:
        return statistics.median(of(*each) for each in results)

    print(f"beside {name}: sent {median(lambda plain, _: plain['sent']):,.0f}/s,", end=" ")
    print(f"acknowledged {median(lambda plain, _: plain['acknowledged']):,.0f}/s,", end=" ")
    print(f"committed {median(lambda plain, _: plain['committed']):,.0f}/s,", end=" ")
    print(f"send_and_wait p50 {median(lambda plain, _: plain['send_and_wait']):.1f} ms")
    print(f"{name}: drained {median(lambda _, ours: ours['drained']):,.0f}/s", end=" ")
    print(f"({median(lambda plain, ours: ours['drained'] / plain['sent']):.2f} of sent),", end=" ")
    print(f"made {median(lambda _, ours: ours['made']):,.0f}/s", end=" ")
    print(f"({median(lambda plain, ours: ours['made'] / plain['committed']):.2f} of committed,", end=" ")
    print(f"{median(lambda plain, ours: ours['made'] / plain['acknowledged']):.2f} of acknowledged),", end=" ")
    print(f"change → handled p50 {median(lambda _, ours: ours['latency']):.1f} ms", end=" ")
    print(f"(+{median(lambda plain, ours: ours['latency'] - plain['send_and_wait']):.1f})")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.bus", description="The way of an event, in events a second.")
    parser.add_argument("--events", type=int, default=5_000, help="of each measurement in a round")
    parser.add_argument("--writers", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with contextlib.ExitStack() as servers:
        folder = servers.enter_context(tempfile.TemporaryDirectory())
        Path(folder).chmod(0o755)
        url = servers.enter_context(database(Path(folder)))
        broker = servers.enter_context(kafka.running())
        uvloop.run(measure(url, broker.address, **vars(options)))


if __name__ == "__main__":
    main()
