"""Outbox, relay, Kafka, inbox, while things are killed: all of it arrives, in order per key, applied once."""

import asyncio
import os
import re
import signal
import sys
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from uuid import uuid4

import asyncpg
import pytest

from shared import outbox
from shared.bus.kafka import Cluster, KafkaBus
from shared.database import Direct, Hints, Sessions
from shared.events import CloudEvent, gateway
from shared.settings import ServiceSettings
from tests.servers.kafka import Broker
from tests.shared.bus_contract import consuming
from tests.shared.crashing_member import applying
from tests.shared.http_app import create
from tests.shared.test_http_requests import API
from tests.support.services import People, serving
from tests.support.waiting import until

pytestmark = [pytest.mark.kafka, pytest.mark.xdist_group("kafka")]

KEYS = 7


class World:
    """Changes, each with its event; what came of them is in the table `applied`."""

    def __init__(self, sessions: Sessions, cluster: Cluster, admin: asyncpg.Connection) -> None:
        self.sessions = sessions
        self.cluster = cluster
        self.handler = applying(sessions)
        self._admin = admin
        self._changed = 0

    def join(self) -> KafkaBus:
        return KafkaBus(self.cluster)

    async def change(self, times: int = 1) -> None:
        for _ in range(times):
            key, number = f"key-{self._changed % KEYS}", self._changed // KEYS
            async with self.sessions.begin() as session:
                await outbox.append(session, gateway.CLIENT_CHANGED, key, id=key, client=f"{number}")
            self._changed += 1

    async def applied(self) -> int:
        return int(await self._admin.fetchval("SELECT count(*) FROM applied"))

    async def all_applied(self) -> bool:
        return await self.applied() >= self._changed

    async def verdict(self) -> None:
        """Wait until everything is applied; everything once, and in order."""
        await until(self.all_applied, within=30)
        numbers: dict[str, list[int]] = defaultdict(list)
        for row in await self._admin.fetch("SELECT subject, number FROM applied ORDER BY position"):
            numbers[row["subject"]].append(row["number"])
        assert sum(map(len, numbers.values())) == self._changed
        assert all(each == list(range(len(each))) for each in numbers.values())


@pytest.fixture
def cluster(broker: Broker) -> Cluster:
    return Cluster(servers=[broker.address], prefix=f"{uuid4().hex}.", partitions=4, timeout=2.0)


@pytest.fixture
async def world(
    cluster: Cluster, direct: Direct, sessions: Sessions, hints: Hints, admin: asyncpg.Connection
) -> AsyncIterator[World]:
    await admin.execute("CREATE TABLE applied (position serial PRIMARY KEY, subject text, number integer)")
    bus = KafkaBus(cluster)
    relay = asyncio.create_task(outbox.Relay(direct, bus, hints, poll=0.2).run())
    yield World(sessions, cluster, admin)
    assert not relay.done()
    relay.cancel()
    await asyncio.gather(relay, return_exceptions=True)
    await bus.close()


@asynccontextmanager
async def member(world: World) -> AsyncIterator[None]:
    bus = world.join()
    async with consuming(bus, world.handler):
        yield
    await bus.close()


async def test_the_broker_is_killed_and_comes_back(world: World, broker: Broker) -> None:
    async with member(world), member(world):
        await world.change(100)
        await until(world.applied)
        broker.kill()
        await world.change(50)
        await broker.start()
        await world.change(50)
        await world.verdict()


async def test_the_broker_hangs_for_a_while(world: World, broker: Broker) -> None:
    async with member(world), member(world):
        await world.change(50)
        await until(world.applied)
        broker.pause()
        hanging = asyncio.get_running_loop().time() + 4
        while asyncio.get_running_loop().time() < hanging:
            await world.change()
            await asyncio.sleep(0.05)
        broker.resume()
        await world.change(50)
        await world.verdict()


async def test_a_member_is_killed_in_the_middle_of_a_batch(world: World, broker: Broker, database_url: str) -> None:
    await world.change(60)
    environment = {"KAFKA": broker.address, "PREFIX": world.cluster.prefix, "DATABASE_URL": database_url}
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.shared.crashing_member", env={**os.environ, **environment, "EVENTS": "15"}
    )
    assert await asyncio.wait_for(child.wait(), 30) == -signal.SIGKILL
    assert await world.applied() == 15
    async with member(world):
        await world.verdict()


async def test_a_rebalance_every_second_means_no_double_work(world: World) -> None:
    done = Counter[str]()

    async def handler(event: CloudEvent) -> None:
        await asyncio.sleep(0.01)
        await world.handler(event)
        done[event.id] += 1

    ended = asyncio.Event()

    async def come_and_go() -> None:
        for _ in range(3):
            async with AsyncExitStack() as guests:
                await guests.enter_async_context(consuming(world.join(), handler))
                await asyncio.sleep(1)
                await guests.enter_async_context(consuming(world.join(), handler))
                await asyncio.sleep(1)
        ended.set()

    async with consuming(world.join(), handler):
        guests = asyncio.create_task(come_and_go())
        while not ended.is_set():
            await world.change()
            await asyncio.sleep(0.01)
        await guests
        await world.verdict()
    assert set(done.values()) == {1}


async def test_the_api_accepts_changes_while_the_broker_is_away(
    cluster: Cluster, broker: Broker, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    _, app = create(ServiceSettings(bus=f"kafka://{broker.address}", bus_prefix=cluster.prefix, bus_partitions=4))
    names = (f"thing-{number}" for number in count())

    async with serving(app) as client:
        headers = await People.of(app).add("ana")

        async def change() -> int:
            return (await client.post(f"{API}/things", json={"name": next(names)}, headers=headers)).status_code

        async def ready() -> tuple[int, str]:
            answer = await client.get("/readyz")
            return answer.status_code, answer.json()["status"]

        async def metric(name: str) -> float:
            found = re.search(rf"^{name} (\S+)$", (await client.get("/metrics")).text, re.MULTILINE)
            return float(found[1]) if found else 0.0

        async def degraded() -> bool:
            return await ready() == (200, "degraded")

        async def well() -> bool:
            return await ready() == (200, "ok")

        seen: list[str] = []

        async def handler(event: CloudEvent) -> None:
            seen.append(event.id)

        async with consuming(app.state.core.bus, handler, "us"):
            assert await ready() == (200, "ok")
            assert await change() == 201
            await until(lambda: seen, within=20)
            broker.kill()
            assert [await change() for _ in range(5)] == [201] * 5
            await until(degraded)
            assert "bus: " in (await client.get("/readyz")).json()["detail"]

            async def backlog() -> bool:
                return await metric("moorage_outbox_depth") == 5 and await metric("moorage_outbox_oldest_seconds") > 0

            await until(backlog, within=20)
            await broker.start()
            await until(well)
            await until(lambda: len(set(seen)) == 6, within=20)
            assert len(seen) == 6

            async def nothing_waits() -> bool:
                return await metric("moorage_outbox_depth") == 0

            await until(nothing_waits)
            assert 'moorage_bus_lag{consumer="us"}' in (await client.get("/metrics")).text
