"""The bus over PostgreSQL: the contract, and what only this implementation has to withstand."""

import asyncio
import time
from datetime import timedelta

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.bus import Bus, BusUnavailable
from shared.bus.postgres import PostgresBus
from shared.database import Direct, Hints
from shared.events import CloudEvent
from tests.shared.bus_contract import TOPIC, BusContract, Seen, consuming, message
from tests.support.postgres import Server
from tests.support.waiting import until


class PostgresMembers:
    def __init__(self, direct: Direct, hints: Hints, url: str) -> None:
        self._direct = direct
        self._hints = hints
        self.environment = {"DATABASE_URL": url}

    def join(self, *, attempts: int = 3, lease: float = 10.0) -> Bus:
        return PostgresBus(self._direct, self._hints, attempts=attempts, lease=timedelta(seconds=lease), poll=0.1)


class TestPostgresBus(BusContract):
    @pytest.fixture
    def members(self, direct: Direct, hints: Hints, database_url: str) -> PostgresMembers:
        return PostgresMembers(direct, hints, database_url)


async def test_offsets_have_no_gaps_and_an_event_published_twice_is_there_once(
    direct: Direct, hints: Hints, admin: asyncpg.Connection
) -> None:
    bus = PostgresBus(direct, hints)
    sent = [message(f"key-{number}", number) for number in range(10)]
    await asyncio.gather(*(bus.publish(sent[start:]) for start in range(10)), bus.publish([*sent, *sent]))
    rows = await admin.fetch('SELECT "offset", event_id FROM bus_messages ORDER BY 1')
    assert [row["offset"] for row in rows] == list(range(1, 11))
    assert {row["event_id"] for row in rows} == {one.event.id for one in sent}


async def test_what_is_lost_of_the_hints_a_poll_finds(direct: Direct, database_url: str) -> None:
    bus, seen = PostgresBus(direct, Hints(database_url), poll=0.05), Seen()  # never started: it hears nothing
    async with consuming(bus, seen):
        await bus.publish([message("churn")])
        await until(lambda: seen.ids)


async def test_a_flood_on_one_key_does_not_starve_another(direct: Direct, hints: Hints) -> None:
    bus, seen = PostgresBus(direct, hints, batch=10), Seen()
    before: list[int] = []

    async def handle(event: CloudEvent) -> None:
        await seen(event)
        if event.subject == "drop":
            before.append(len(seen.numbers["flood"]))

    await bus.publish([message("flood", number) for number in range(300)] + [message("drop")])
    async with consuming(bus, handle):
        await until(lambda: before)
    assert before[0] <= 20


async def test_a_member_that_lost_its_lease_stops_and_commits_nothing(
    direct: Direct, hints: Hints, admin: asyncpg.Connection
) -> None:
    members = [PostgresBus(direct, hints, lease=timedelta(seconds=3), poll=0.05) for _ in range(2)]
    slow, quick, begun = Seen(), Seen(), asyncio.Event()

    async def stall(event: CloudEvent) -> None:
        begun.set()
        await asyncio.sleep(1.2)  # over a third of the lease: it must ask before the next event
        await slow(event)

    await members[0].publish([message("churn", number) for number in range(3)])
    async with consuming(members[0], stall):
        await begun.wait()
        await admin.execute("UPDATE bus_cursors SET leased_until = now() - interval '1 s' WHERE leased_until > now()")
        async with consuming(members[1], quick):
            await until(lambda: quick.numbers["churn"] == [0, 1, 2])
            await until(lambda: slow.ids)
            await admin.execute("SELECT pg_sleep(0.1)")
    assert slow.numbers["churn"] == [0]
    assert await members[0].lag("us", [TOPIC]) == 0


async def test_offsets_go_on_when_all_messages_have_gone(
    direct: Direct, engine: AsyncEngine, hints: Hints, admin: asyncpg.Connection
) -> None:
    bus = PostgresBus(direct, hints)
    await bus.publish([message("churn", number) for number in range(5)])
    await admin.execute("UPDATE bus_messages SET at = now() - interval '8 days'")
    async with engine.begin() as connection:
        assert (await connection.execute(bus.chores()[0])).rowcount == 5
    await bus.publish([message("churn", 6)])
    assert [row[0] for row in await admin.fetch('SELECT "offset" FROM bus_messages ORDER BY 1')] == [6]


async def test_what_is_no_event_goes_to_the_dead_letters(
    direct: Direct, hints: Hints, admin: asyncpg.Connection
) -> None:
    bus, seen = PostgresBus(direct, hints, poll=0.05), Seen()
    await admin.execute(
        'INSERT INTO bus_messages (topic, "offset", partition, key, event_id, event) VALUES ($1, 1, 0, $2, $2, $3)',
        TOPIC, "x", '{"id": "x"}',
    )  # fmt: skip
    await admin.execute('INSERT INTO bus_heads (topic, partition, "offset") VALUES ($1, 0, 1)', TOPIC)
    async with consuming(bus, seen):
        await until(lambda: admin.fetchval("SELECT cause FROM dead_letters"))
        await bus.publish([message("churn")])
        await until(lambda: seen.ids)


async def test_the_database_is_killed_and_comes_back(server: Server) -> None:
    url = server.postgres.url
    direct, hints = Direct(url, application="test", connections=5), Hints(url)
    await direct.open()
    await hints.start()
    bus, seen = PostgresBus(direct, hints, lease=timedelta(seconds=2), poll=0.1), Seen()

    async def handler(event: CloudEvent) -> None:
        await asyncio.sleep(0.005)
        await seen(event)

    try:
        async with consuming(bus, handler) as task:
            await bus.publish([message(f"key-{number % 7}", number) for number in range(100)])
            await until(lambda: len(seen.ids) > 10)
            server.kill()
            with pytest.raises(BusUnavailable):
                await bus.publish([message("late")])
            await server.start()
            await bus.publish([message("late")])
            await until(lambda: len(set(seen.ids)) == 101, within=20)
            assert not task.done()
    finally:
        await hints.stop()
        await direct.close()


async def test_a_consumer_stops_at_once_though_the_database_is_away(server: Server) -> None:
    url = server.postgres.url
    direct = Direct(url, application="test", connections=5)
    await direct.open()
    bus, begun = PostgresBus(direct, Hints(url), poll=0.1), asyncio.Event()

    async def handler(_: CloudEvent) -> None:
        begun.set()
        await asyncio.Event().wait()

    await bus.publish([message("churn")])
    async with consuming(bus, handler):
        await begun.wait()
        server.kill()
        started = time.monotonic()
    assert time.monotonic() - started < 3
    await direct.close()
