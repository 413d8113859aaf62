"""Never an event without its change, never a change without its event: append, relay, inbox."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import asyncpg
import pytest
from pydantic import ValidationError

from shared import outbox
from shared.bus import BusUnavailable, Handler, Message
from shared.bus.postgres import PostgresBus
from shared.database import Direct, Hints, Sessions, create_engine, create_sessions
from shared.events import gateway
from shared.outbox import relay
from shared.outbox.relay import AGE, DEPTH
from tests.support.postgres import Server
from tests.support.waiting import until


class ListBus:
    """Remembers what it was given; can be away."""

    def __init__(self) -> None:
        self.away = False
        self.subjects: list[str] = []
        self.sizes: list[int] = []

    async def publish(self, messages: Sequence[Message]) -> None:
        if self.away:
            raise BusUnavailable("away")
        self.sizes.append(len(messages))
        self.subjects += [message.event.subject for message in messages]

    async def consume(self, *, consumer: str, topics: Sequence[str], handler: Handler) -> None:
        raise AssertionError("the relay only publishes")


@asynccontextmanager
async def running(work: Callable[[], Awaitable[None]]) -> AsyncIterator[asyncio.Future[None]]:
    task = asyncio.ensure_future(work())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def change(sessions: Sessions, *subjects: str) -> None:
    async with sessions.begin() as session:
        for subject in subjects:
            await outbox.append(session, gateway.USER_CHANGED, subject, user=subject)


async def test_an_event_is_there_if_and_only_if_its_change_is(sessions: Sessions, admin: asyncpg.Connection) -> None:
    await change(sessions, "ana")
    async with sessions() as session:
        await outbox.append(session, gateway.USER_CHANGED, "bo", user="bo")
        await session.rollback()
    assert [row["key"] for row in await admin.fetch("SELECT key FROM outbox")] == ["ana"]


async def test_what_the_contract_does_not_know_is_refused_at_the_sender(sessions: Sessions) -> None:
    async with sessions() as session:
        with pytest.raises(ValidationError):
            await outbox.append(session, gateway.USER_CHANGED, "ana", user="ana", password="x")


async def test_the_order_of_commits_of_a_subject_is_the_order_on_the_bus(
    direct: Direct, sessions: Sessions, hints: Hints
) -> None:
    bus = ListBus()
    async with running(outbox.Relay(direct, bus, hints).run):
        for number in range(20):
            await change(sessions, f"{number}", f"{number}+")
        await until(lambda: len(bus.subjects) == 40)
    assert bus.subjects == [f"{number}{sign}" for number in range(20) for sign in ("", "+")]


async def test_a_transaction_that_commits_late_is_not_skipped(direct: Direct, sessions: Sessions, hints: Hints) -> None:
    bus = ListBus()
    async with running(outbox.Relay(direct, bus, hints).run), sessions() as late:
        await outbox.append(late, gateway.USER_CHANGED, "late", user="late")
        await change(sessions, "early")
        await until(lambda: bus.subjects == ["early"])
        await late.commit()
        await until(lambda: bus.subjects == ["early", "late"])


async def test_more_than_a_batch(direct: Direct, sessions: Sessions, hints: Hints) -> None:
    bus = ListBus()
    await change(sessions, *(f"user-{number}" for number in range(1201)))
    async with running(outbox.Relay(direct, bus, hints).run):
        await until(lambda: len(bus.subjects) == 1201)


async def test_events_of_a_crowd_come_together(
    direct: Direct, sessions: Sessions, hints: Hints, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "_GATHER", 2.0)
    bus = ListBus()
    await change(sessions, "ana", "bo")
    async with running(outbox.Relay(direct, bus, hints).run):
        await until(lambda: bus.subjects)
        for number in range(5):
            await change(sessions, f"user-{number}")
        await until(lambda: len(bus.subjects) == 7)
    assert bus.sizes == [2, 5]


async def test_an_event_alone_holds_up_none(
    direct: Direct, sessions: Sessions, hints: Hints, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "_GATHER", 3600.0)
    bus = ListBus()
    async with running(outbox.Relay(direct, bus, hints).run):
        for number in range(3):
            await change(sessions, f"user-{number}")
            await until(lambda wanted=number + 1: len(bus.subjects) == wanted)


async def test_events_wait_while_the_bus_is_away_and_the_gauges_say_so(
    direct: Direct, sessions: Sessions, hints: Hints, admin: asyncpg.Connection
) -> None:
    bus = ListBus()
    bus.away = True
    async with running(outbox.Relay(direct, bus, hints, poll=0.05).run):
        await change(sessions, "ana")
        await admin.execute("UPDATE outbox SET created_at = now() - interval '1 min'")
        await until(lambda: DEPTH._value.get() == 1 and AGE._value.get() > 59)
        bus.away = False
        await until(lambda: bus.subjects == ["ana"] and DEPTH._value.get() == 0)


async def test_of_two_relays_one_works_and_the_other_takes_over_when_its_connection_dies(
    direct: Direct, sessions: Sessions, hints: Hints, admin: asyncpg.Connection
) -> None:
    first, second = ListBus(), ListBus()
    holder = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = $1 AND granted"
    async with running(outbox.Relay(direct, first, hints, poll=0.3).run):
        await until(lambda: admin.fetchval(holder, 0x6D6F6F72))
        async with running(outbox.Relay(direct, second, hints, poll=0.02).run):
            await change(sessions, "one")
            await until(lambda: admin.fetchval("SELECT count(*) = 0 FROM outbox"))
            await admin.execute(f"SELECT pg_terminate_backend(({holder}))", 0x6D6F6F72)
            await until(lambda: admin.fetchval(holder, 0x6D6F6F72))
            await change(sessions, "two")
            await until(lambda: second.subjects == ["two"])
    await until(lambda: admin.fetchval(f"SELECT NOT EXISTS ({holder})", 0x6D6F6F72))
    assert first.subjects == ["one"]


async def test_a_relay_killed_between_publishing_and_removing_loses_and_doubles_nothing(
    direct: Direct, sessions: Sessions, hints: Hints, admin: asyncpg.Connection, database_url: str
) -> None:
    await change(sessions, *(f"user-{number}" for number in range(10)))
    argv = [sys.executable, "-m", "tests.shared.crashing_relay"]
    child = await asyncio.create_subprocess_exec(*argv, env={**os.environ, "DATABASE_URL": database_url})
    assert await asyncio.wait_for(child.wait(), 30) == -signal.SIGKILL
    assert await admin.fetchval("SELECT count(*) FROM outbox") == 10
    async with running(outbox.Relay(direct, PostgresBus(direct, hints), hints, poll=0.05).run):
        await until(lambda: admin.fetchval("SELECT count(*) = 0 FROM outbox"))
    keys = [row["key"] for row in await admin.fetch('SELECT key FROM bus_messages ORDER BY "offset"')]
    assert keys == [f"user-{number}" for number in range(10)]


async def test_the_relay_outlives_the_database(server: Server) -> None:
    url = server.postgres.url
    engine, hints, bus = create_engine(url, application="test", connections=5), Hints(url), ListBus()
    direct = Direct(url, application="test", connections=5)
    await direct.open()
    sessions = create_sessions(engine)
    await hints.start()
    async with running(outbox.Relay(direct, bus, hints, poll=0.05).run) as task:
        await change(sessions, "before")
        admin = await asyncpg.connect(url)
        await until(lambda: admin.fetchval("SELECT count(*) = 0 FROM outbox"))
        server.kill()
        await server.start()
        await change(sessions, "after")
        await until(lambda: bus.subjects == ["before", "after"])
        assert not task.done()
    await hints.stop()
    await direct.close()
    await engine.dispose()


async def test_an_event_is_applied_once(sessions: Sessions) -> None:
    async def apply() -> bool:
        async with sessions.begin() as session:
            return await outbox.first_delivery(session, consumer="us", event_id="1")

    assert sorted(await asyncio.gather(*(apply() for _ in range(5)))) == [False] * 4 + [True]
    async with sessions() as session:  # rolled back: not applied
        assert await outbox.first_delivery(session, consumer="us", event_id="2")
    async with sessions() as session:
        assert await outbox.first_delivery(session, consumer="us", event_id="2")
