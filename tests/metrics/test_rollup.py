"""Rolling up changes no total, however often and by however many it is done; what is old goes."""

import asyncio
import random
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from sqlalchemy import insert, text

from services.metrics import exposition
from services.metrics.domain import HOUR, MINUTE, RAW, TOTAL
from services.metrics.rollup import delete_old, roll_up
from shared.database import Sessions
from shared.schema import latency_samples, request_samples
from tests.metrics.conftest import Deploy

NOW = datetime.now(UTC).replace(microsecond=0)


async def write(sessions: Sessions, uid: UUID, *, ago: float, count: int) -> None:
    at = NOW - timedelta(seconds=ago)
    row = {"uid": uid, "at": at, "version": 1, "resolution": RAW, "code": 200}
    async with sessions.begin() as session:
        await session.execute(insert(request_samples).values(**row, client="ana", count=count))
        await session.execute(insert(latency_samples).values(**row, bins=[100, 200], counts=[count, 1]))


async def roll_all(sessions: Sessions) -> None:
    for level in (MINUTE, HOUR, TOTAL):
        for _ in range(1000):
            async with sessions.begin() as session:
                if not await roll_up(session, level):
                    break


async def totals(sessions: Sessions, resolution: int) -> tuple[int, int]:
    """Requests and latencies, as samples of this resolution hold them."""
    counts = f"SELECT coalesce(sum(count), 0) FROM request_samples WHERE resolution = {resolution}"
    bins = f"SELECT coalesce(sum(n), 0) FROM latency_samples, unnest(counts) AS c (n) WHERE resolution = {resolution}"
    async with sessions() as session:
        requests = (await session.execute(text(counts))).scalar_one()
        latencies = (await session.execute(text(bins))).scalar_one()
    return int(requests), int(latencies)


async def test_totals_are_conserved_by_every_level(sessions: Sessions) -> None:
    rng = random.Random(5)
    uids = [uuid4() for _ in range(3)]
    requests = latencies = 0
    for _ in range(300):
        count = rng.randint(1, 50)
        # Whole hours, so that all levels hold all of it.
        await write(sessions, rng.choice(uids), ago=rng.uniform(2 * HOUR, 50 * HOUR), count=count)
        requests, latencies = requests + count, latencies + count + 1
    await asyncio.gather(roll_all(sessions), roll_all(sessions))
    await roll_all(sessions)
    for level in (RAW, MINUTE, HOUR, TOTAL):
        assert await totals(sessions, level) == (requests, latencies), level


async def test_totals_grow_by_what_is_new(sessions: Sessions) -> None:
    uid = uuid4()
    await write(sessions, uid, ago=3 * HOUR, count=5)
    await roll_all(sessions)
    # Later than what is closed, so these are not lost.
    async with sessions.begin() as session:
        await session.execute(text("UPDATE rollups SET until = :until"), {"until": NOW - timedelta(hours=2)})
    await write(sessions, uid, ago=HOUR, count=7)
    await roll_all(sessions)
    assert await totals(sessions, TOTAL) == (12, 14)
    async with sessions() as session:
        rows = (await session.execute(text("SELECT count FROM request_samples WHERE resolution = 0"))).scalars().all()
    assert rows == [12]


async def test_old_samples_go_only_once_they_are_rolled_up(sessions: Sessions) -> None:
    uid = uuid4()
    await write(sessions, uid, ago=30 * HOUR, count=5)
    await write(sessions, uid, ago=60, count=1)

    async def delete() -> None:
        async with sessions.begin() as session:
            await delete_old(session, RAW, kept=timedelta(days=1))

    await delete()
    assert await totals(sessions, RAW) == (6, 8)
    await roll_all(sessions)
    await delete()
    assert await totals(sessions, RAW) == (1, 2)
    assert (await totals(sessions, HOUR))[0] >= 5  # with the recent one, once its ten minutes are over


async def test_prometheus_totals_do_not_depend_on_what_is_rolled_up(sessions: Sessions, deploy: Deploy) -> None:
    uid = await deploy("churn")
    for ago in (5 * HOUR, 90, 1):
        await write(sessions, uid, ago=ago, count=2)
    line = 'moorage_endpoint_requests_total{deployment="churn",group="risk",version="1",code_class="2xx"} 6'
    before = await exposition.endpoints(sessions)
    assert line in before.splitlines()
    await roll_all(sessions)
    assert await exposition.endpoints(sessions) == before
