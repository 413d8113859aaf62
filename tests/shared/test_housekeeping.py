"""What has served its time goes, what has not stays, and one process at a time sees to it."""

import asyncio

import asyncpg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.housekeeping import _LOCK, Housekeeping
from tests.support.waiting import until

OLD = {
    "idempotent_requests": (
        "INSERT INTO idempotent_requests (caller, key, request_sha256, at) VALUES ('u', $1, '', now() - $2::interval)",
        "23 hours", "25 hours",
    ),
    "inbox": (
        "INSERT INTO inbox (consumer, event_id, at) VALUES ('us', $1, now() - $2::interval)", "13 days", "15 days"
    ),
    "leases": (
        "INSERT INTO leases (name, token, owner, expires_at) VALUES ($1, 1, 'us', now() - $2::interval)",
        "1 minute", "25 hours",
    ),
}  # fmt: skip


async def test_the_old_goes_and_the_new_stays(engine: AsyncEngine, admin: asyncpg.Connection) -> None:
    for statement, young, old in OLD.values():
        for name, age in (("young", young), ("old", old)):
            await admin.execute(statement.replace("$1", f"'{name}'").replace("$2", f"'{age}'"))
    assert await Housekeeping(engine).tidy()
    for table, column in (("idempotent_requests", "key"), ("inbox", "event_id"), ("leases", "name")):
        assert [row[0] for row in await admin.fetch(f"SELECT {column} FROM {table}")] == ["young"]


async def test_one_process_at_a_time(engine: AsyncEngine) -> None:
    async with engine.begin() as other:
        await other.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
        assert not await Housekeeping(engine).tidy()
    assert await Housekeeping(engine).tidy()


async def test_it_comes_by_itself(engine: AsyncEngine, admin: asyncpg.Connection) -> None:
    await admin.execute("INSERT INTO inbox VALUES ('us', 'old', now() - interval '15 days')")
    task = asyncio.ensure_future(Housekeeping(engine, every=0.1).run())
    await until(lambda: admin.fetchval("SELECT count(*) = 0 FROM inbox"))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
