"""Single statements through the driver: JSON, rows, an outage, and that nothing stays open."""

import asyncio

import asyncpg
import pytest

from shared.database import Direct, is_disconnect
from tests.support.postgres import Server
from tests.support.waiting import until


async def test_json_and_columns(direct: Direct) -> None:
    value = {"a": [1, None, "é"], "b": {"c": 0.5}}
    [row] = await direct.fetch(
        "SELECT $1::jsonb AS value, $2::jsonb AS nothing, $1::jsonb -> 'a' ->> 2 AS text", value, None
    )
    assert (row.value, row.nothing, row.text) == (value, None, "é")
    with pytest.raises(AttributeError):
        _ = row.other
    assert await direct.first("SELECT 1 WHERE false") is None


async def test_more_at_once_than_there_are_connections(database_url: str) -> None:
    async with Direct(database_url, application="few", connections=2) as direct:
        rows = await asyncio.gather(*(direct.fetch("SELECT $1::int AS n, pg_sleep(0.01)", n) for n in range(20)))
        assert [row.n for [row] in rows] == list(range(20))
        few = "SELECT count(*) AS n FROM pg_stat_activity WHERE application_name = 'few'"
        assert [row.n for row in await direct.fetch(few)] == [2]


async def test_what_was_given_up_is_not_lent_again_half_done(direct: Direct, admin: asyncpg.Connection) -> None:
    for _ in range(30):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.005):
                await direct.fetch("SELECT pg_sleep(5)")
    assert [row.n for row in await direct.fetch("SELECT 7 AS n")] == [7]
    sleeping = "SELECT count(*) = 0 FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(5)%' AND state = 'active'"
    await until(lambda: admin.fetchval(sleeping), within=3)


async def test_an_outage_is_known_as_one_and_passes(server: Server) -> None:
    async with Direct(server.postgres.url, application="test", connections=2) as direct:
        await asyncio.gather(*(direct.fetch("SELECT pg_sleep(0.05)") for _ in range(2)))
        server.kill()
        for _ in range(3):
            with pytest.raises(Exception) as failed:  # noqa: PT011 - which one it is, is what is asked
                await direct.fetch("SELECT 1")
            assert is_disconnect(failed.value)
        await server.start()
        assert [row.n for row in await direct.fetch("SELECT 7 AS n")] == [7]
