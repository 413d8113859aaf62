"""One line of history, that goes up, down and up again, whoever starts it and however often."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from uuid import uuid4

import asyncpg
import pytest

import migrations
from deploy.embedded.postgres import Postgres

OBJECTS = """
    SELECT 'column', table_name || '.' || column_name || ' ' || data_type || ' ' || is_nullable
    FROM information_schema.columns WHERE table_schema = 'public'
    UNION SELECT 'constraint', conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
    WHERE connamespace = 'public'::regnamespace
    UNION SELECT 'index', indexdef FROM pg_indexes WHERE schemaname = 'public'
    UNION SELECT 'sequence', relname FROM pg_class WHERE relkind = 'S' AND relnamespace = 'public'::regnamespace
"""


@pytest.fixture
async def empty(postgres: Postgres) -> AsyncIterator[str]:
    name = f"empty_{uuid4().hex}"
    connection = await asyncpg.connect(postgres.url)
    await connection.execute(f"CREATE DATABASE {name}")
    yield postgres.url_of(name)
    await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await connection.close()


async def objects(url: str) -> set[tuple[str, str]]:
    connection = await asyncpg.connect(url)
    rows = await connection.fetch(OBJECTS)
    await connection.close()
    return {(row[0], row[1]) for row in rows if "alembic_version" not in row[1]}


async def migrate(url: str, *words: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "migrations", *words,
        env={**os.environ, "MOORAGE_DATABASE_URL": url}, stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip


async def test_up_down_and_up_again(empty: str) -> None:
    await asyncio.to_thread(migrations.upgrade, empty)
    first = await objects(empty)
    assert len(first) > 100
    await asyncio.to_thread(migrations.downgrade, empty)
    assert await objects(empty) == set()
    await asyncio.to_thread(migrations.upgrade, empty)
    assert await objects(empty) == first
    await asyncio.to_thread(migrations.check, empty)  # the models say nothing else


async def test_two_processes_at_once(empty: str) -> None:
    both = [await migrate(empty, "up"), await migrate(empty, "up")]
    assert [await process.wait() for process in both] == [0, 0]
    assert await (await migrate(empty, "down")).wait() == 0
    assert await objects(empty) == set()


async def test_a_lock_that_is_not_to_be_had_ends_it_and_nothing_is_half_done(empty: str) -> None:
    await asyncio.to_thread(migrations.upgrade, empty, "0001")
    before = await objects(empty)
    holder = await asyncpg.connect(empty)
    async with holder.transaction():
        await holder.execute("LOCK TABLE deployments IN ACCESS SHARE MODE")
        with pytest.raises(Exception, match="lock timeout"):
            await asyncio.to_thread(migrations.upgrade, empty)
    await holder.close()
    assert await objects(empty) == before
