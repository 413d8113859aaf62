"""Leases: one owner at a time, and a stalled owner's write is refused."""

import asyncio
from datetime import timedelta

import asyncpg
import pytest

from shared.database import Direct, Sessions
from shared.reconcile import LeaseLost, Leases

EXPIRE = "UPDATE leases SET expires_at = now() - interval '1 s'"


@pytest.fixture
def ours(direct: Direct) -> Leases:
    return Leases(direct, owner="ours")


@pytest.fixture
def theirs(direct: Direct) -> Leases:
    return Leases(direct, owner="theirs")


async def test_one_of_many_gets_it(direct: Direct) -> None:
    owners = [Leases(direct, owner=f"owner-{number}") for number in range(8)]
    fences = await asyncio.gather(*(owner.claim("x") for owner in owners))
    assert sum(fence is not None for fence in fences) == 1


async def test_released_it_is_free_at_once_and_expired_too(
    ours: Leases, theirs: Leases, admin: asyncpg.Connection
) -> None:
    first = await ours.claim("x")
    assert first
    assert await theirs.claim("x") is None
    await ours.release(first)
    second = await theirs.claim("x")
    assert second
    assert second.token > first.token
    await admin.execute(EXPIRE)
    assert await ours.claim("x")


async def test_a_stalled_owner_writes_nothing(
    ours: Leases, theirs: Leases, sessions: Sessions, admin: asyncpg.Connection
) -> None:
    stalled = await ours.claim("x")
    assert stalled
    async with sessions() as session:
        await stalled.check(session)
    await admin.execute(EXPIRE)
    assert await theirs.claim("x")
    async with sessions() as session:
        with pytest.raises(LeaseLost):
            await stalled.check(session)
    with pytest.raises(LeaseLost):
        await ours.extend(stalled)
    await ours.release(stalled)  # changes nothing
    assert await ours.claim("x") is None


async def test_a_write_under_way_holds_off_the_next_owner(
    ours: Leases, theirs: Leases, sessions: Sessions, admin: asyncpg.Connection
) -> None:
    fence = await ours.claim("x")
    assert fence
    async with sessions() as session:
        await fence.check(session)
        await admin.execute("SET lock_timeout = '100ms'")
        with pytest.raises(asyncpg.LockNotAvailableError):
            await admin.execute(EXPIRE)
        await session.commit()
    await admin.execute(EXPIRE)
    assert await theirs.claim("x")


async def test_tokens_rise_even_when_the_row_was_removed(ours: Leases, admin: asyncpg.Connection) -> None:
    first = await ours.claim("x")
    await admin.execute("DELETE FROM leases")
    second = await ours.claim("x")
    assert first
    assert second
    assert second.token > first.token


async def test_a_lease_is_good_for_its_time(direct: Direct, admin: asyncpg.Connection) -> None:
    leases = Leases(direct, owner="ours", ttl=timedelta(seconds=40))
    fence = await leases.claim("x")
    assert fence
    await admin.execute(EXPIRE)
    await leases.extend(fence)
    assert await admin.fetchval("SELECT expires_at - now() > interval '39 s' FROM leases")
