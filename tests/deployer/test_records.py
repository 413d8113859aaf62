"""What the reconciler records is one statement: it holds against whoever writes the same rows at that moment."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import UUID

import asyncpg
import pytest
from sqlalchemy import text

from services.deployer.records import Loaded, Records
from services.deployer.steps import Step
from shared.reconcile import Fence, LeaseLost
from tests.deployer.conftest import Deployer, eventually
from tests.support.waiting import until

BLOCKED = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


@pytest.fixture
async def other(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """Somebody else's connection."""
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def settled(deployer: Deployer) -> tuple[Records, Loaded]:
    uid = UUID((await deployer.deploy())["uid"])
    records = Records(deployer.core.direct)
    await eventually(lambda: _nothing_unsettled(records))
    loaded = await records.load(uid)
    assert loaded
    return records, loaded


async def _nothing_unsettled(records: Records) -> bool:
    return not await records.unsettled()


async def claim(deployer: Deployer) -> Fence:
    fence = await deployer.core.leases.claim("by hand")
    assert fence
    return fence


async def until_blocked(deployer: Deployer) -> None:
    await eventually(lambda: _is_blocked(deployer))


async def _is_blocked(deployer: Deployer) -> bool:
    async with deployer.core.reading() as session:
        return (await session.execute(text(BLOCKED))).first() is not None


async def test_a_change_that_is_accepted_meanwhile_is_not_lost(deployer: Deployer, other: asyncpg.Connection) -> None:
    records, loaded = await settled(deployer)
    async with other.transaction():
        await other.execute(
            "UPDATE deployments SET generation = generation + 1, name = 'new' WHERE uid = $1", loaded.uid
        )
        writing = asyncio.create_task(records.unroute(loaded, await claim(deployer)))
        await until_blocked(deployer)
    await writing
    now = await records.load(loaded.uid)
    assert now
    assert now.generation == loaded.generation + 1
    assert now.state == replace(loaded.state, endpoints_generation=loaded.state.endpoints_generation + 1)
    assert [each.routable for each in now.replicas.values()] == [False]
    assert await other.fetchval("SELECT name FROM deployments WHERE uid = $1", loaded.uid) == "new"


async def test_who_is_overtaken_while_waiting_writes_nothing(deployer: Deployer, other: asyncpg.Connection) -> None:
    """Not even what does not have to wait: steps, replicas, events."""
    records, loaded = await settled(deployer)
    fence = await claim(deployer)
    await until(lambda: other.fetchval("SELECT count(*) = 0 FROM outbox"))  # then nothing moves by itself
    tables = ("deployment_steps", "outbox", "bus_messages")
    counts = f"SELECT {', '.join(f'(SELECT count(*) FROM {table})' for table in tables)}"
    before = await other.fetchrow(counts)
    async with other.transaction():
        await other.execute("SELECT FROM leases WHERE name = 'by hand' FOR UPDATE")
        writing = asyncio.create_task(records.purge(loaded, fence))
        await until_blocked(deployer)
        await other.execute("UPDATE leases SET token = nextval('lease_tokens') WHERE name = 'by hand'")
    with pytest.raises(LeaseLost):
        await writing
    assert await records.load(loaded.uid) == loaded
    assert await other.fetchrow(counts) == before


async def test_while_it_is_written_nobody_takes_the_lease(deployer: Deployer, other: asyncpg.Connection) -> None:
    records, loaded = await settled(deployer)
    fence = await claim(deployer)
    async with other.transaction():
        await other.execute("SELECT FROM deployments WHERE uid = $1 FOR UPDATE", loaded.uid)
        writing = asyncio.create_task(records.unroute(loaded, fence))
        await until_blocked(deployer)
        await deployer.core.direct.fetch("UPDATE leases SET owner = owner WHERE name <> 'by hand'")
        claiming = asyncio.create_task(deployer.core.leases.claim("by hand"))
        done, _ = await asyncio.wait({claiming}, timeout=0.3)
        assert not done
    await writing
    assert (await claiming or fence).token > fence.token


async def test_what_is_loaded_is_what_was_recorded(deployer: Deployer) -> None:
    records, loaded = await settled(deployer)
    [replica] = loaded.replicas.values()
    assert replica.started_at
    assert replica.started_at.tzinfo
    fence = await claim(deployer)
    failing = replace(replica, failure={"cause": "crash", "log": ["a\tb", "é"]}, restarts=3)
    await records._write(
        loaded, fence, state=loaded.state, replicas=[failing], steps=[Step("one", "1"), Step("two", "2")]
    )
    now = await records.load(loaded.uid)
    assert now == replace(loaded, replicas={replica.id: failing})
    # The controller may have noted meanwhile that the replica is not as it stands here.
    rows = await deployer.core.direct.fetch("SELECT step FROM deployment_steps ORDER BY id")
    assert [row.step for row in rows if row.step in ("one", "two")] == ["one", "two"]
