"""Hints: quick when all is well, and never the reason that something stops."""

import asyncio

import asyncpg

from shared import outbox
from shared.database import HINTS, Hints, Sessions
from shared.events import gateway
from tests.support.postgres import Server
from tests.support.waiting import until

LISTENING = "SELECT pid FROM pg_stat_activity WHERE application_name = 'moorage-hints' AND datname = current_database()"


async def test_a_commit_wakes_whoever_waits_for_its_subject(hints: Hints, sessions: Sessions) -> None:
    async with hints.changes("ana") as changed, hints.changes("bo") as other:
        async with sessions.begin() as session:
            await outbox.append(session, gateway.USER_CHANGED, "ana", user="ana")
            assert not changed.is_set()
        await asyncio.wait_for(changed.wait(), 5)
        assert not other.is_set()


async def test_a_listener_that_fails_harms_nobody(hints: Hints, admin: asyncpg.Connection) -> None:
    def fails(kind: str, subject: str) -> None:
        raise ValueError(kind, subject)

    heard: list[tuple[str, str]] = []
    hints.listen(fails)
    hints.listen(lambda *what: heard.append(what))
    await admin.execute("SELECT pg_notify($1, 'some.event a subject with spaces')", HINTS)
    await until(lambda: ("some.event", "a subject with spaces") in heard)
    # It fails on the greeting after a new connection, too.
    await admin.execute(f"SELECT pg_terminate_backend(({LISTENING}))")
    await until(lambda: ("", "") in heard)
    await admin.execute("SELECT pg_notify($1, 'again x')", HINTS)
    await until(lambda: ("again", "x") in heard)


async def test_who_ended_listening_hears_no_more(hints: Hints, admin: asyncpg.Connection) -> None:
    heard: list[str] = []
    end = hints.listen(lambda kind, _: heard.append(kind))
    end()
    async with hints.changes("x") as changed:
        await admin.execute("SELECT pg_notify($1, 'k x')", HINTS)
        await asyncio.wait_for(changed.wait(), 5)
    assert heard == []


async def test_after_an_outage_everybody_is_told_to_look(server: Server) -> None:
    hints = Hints(server.postgres.url)
    async with hints.changes("x") as changed:
        server.kill()
        await hints.start()
        await server.start()
        await asyncio.wait_for(changed.wait(), 10)
        changed.clear()
        server.kill()
        await server.start()
        await asyncio.wait_for(changed.wait(), 10)
    await hints.stop()
