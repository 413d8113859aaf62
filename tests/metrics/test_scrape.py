"""Every request is counted once: with real Envoys, real PostgreSQL, and metrics processes that are killed."""

import asyncio
import random
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import func, select, text, update

from services.metrics.app import create
from services.metrics.scraper import SCRAPES
from shared.database import Sessions
from shared.schema import Deployment, ScrapeSource, request_samples
from tests.metrics.conftest import Deploy, eventually
from tests.metrics.front import Front
from tests.support.services import serving

Start = Callable[..., subprocess.Popen[bytes]]


@asynccontextmanager
async def scraping(front: Front, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    settings = {"MOORAGE_ENVOY_ADMIN_URL": front.admin, "MOORAGE_SCRAPE_SECONDS": "0.1"}
    for name, value in {**environment, **settings}.items():
        monkeypatch.setenv(name, value)
    async with serving(create()[1]):
        yield


async def counted(sessions: Sessions, *columns: str) -> Counter[tuple[object, ...]]:
    by = [request_samples.c[name] for name in columns]
    async with sessions() as session:
        rows = await session.execute(select(func.sum(request_samples.c.count), *by).group_by(*by))
        return Counter({tuple(key): int(count) for count, *key in rows if count})


async def timed(sessions: Sessions) -> int:
    """How many latencies are stored."""
    statement = text("SELECT coalesce(sum(count), 0) FROM latency_samples, unnest(counts) AS bins (count)")
    async with sessions() as session:
        return int((await session.execute(statement)).scalar_one())


async def test_every_request_is_counted_by_version_client_and_code(
    front: Front, sessions: Sessions, deploy: Deploy, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    churn, fraud = await deploy("churn"), await deploy("fraud")
    await front.call(7)  # before anybody asks
    async with scraping(front, environment, monkeypatch):
        await front.call(5, version=2, client="ben.b-1")
        await front.call(3, status=422)
        await front.call(2, status=500, version=2)
        await front.call(4, client=None)
        await front.call(6, deployment="fraud", status=302)
        expected = {
            (churn, 1, "ana", 200): 7,
            (churn, 2, "ben.b-1", 200): 5,
            (churn, 1, "ana", 422): 3,
            (churn, 2, "ana", 500): 2,
            (churn, 1, "", 401): 4,
            (fraud, 1, "ana", 302): 6,
        }

        async def all_there() -> None:
            assert await counted(sessions, "uid", "version", "client", "code") == expected
            assert await timed(sessions) == 27

        await eventually(all_there)


async def test_killed_at_random_points_nothing_is_lost_or_doubled(
    front: Front, sessions: Sessions, deploy: Deploy, start_metrics: Start
) -> None:
    await deploy("churn")
    rng = random.Random(3)
    sent = 0

    async def traffic() -> None:
        nonlocal sent
        while True:
            await front.call(10)
            sent += 10

    calls = asyncio.create_task(traffic())
    try:
        for _ in range(3):
            process = start_metrics(front.admin)
            before = sum((await counted(sessions)).values())

            async def counts(before: int = before) -> None:
                assert sum((await counted(sessions)).values()) > before

            await eventually(counts, within=15)
            await asyncio.sleep(rng.uniform(0, 0.15))  # the point at which it is killed
            process.kill()
            process.wait()
    finally:
        calls.cancel()
        await asyncio.gather(calls, return_exceptions=True)
    # The call under way when the traffic ended may have been answered or not.
    await front.call(1, version=2)
    start_metrics(front.admin)

    async def exact() -> None:
        by_version = await counted(sessions, "version")
        assert by_version[2,] == 1
        assert sent <= by_version[1,] <= sent + 10
        assert await timed(sessions) == by_version.total()

    await eventually(exact, within=15)
    now = await counted(sessions)
    await asyncio.sleep(0.5)  # more scrapes change nothing
    assert await counted(sessions) == now


async def test_two_processes_at_once_count_once_and_the_second_takes_over(
    front: Front, sessions: Sessions, deploy: Deploy, start_metrics: Start
) -> None:
    await deploy("churn")
    both = [start_metrics(front.admin), start_metrics(front.admin)]
    total = 0
    for process in both:
        await front.call(20)
        total += 20

        async def all_there(total: int = total) -> None:
            assert (await counted(sessions)).total() == total

        await eventually(all_there, within=15)
        process.kill()
    await asyncio.sleep(0.3)
    assert (await counted(sessions)).total() == total


async def test_an_envoy_that_starts_anew_counts_from_zero(
    front: Front, sessions: Sessions, deploy: Deploy, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    await deploy("churn")
    async with scraping(front, environment, monkeypatch):
        await front.call(5)

        async def five() -> None:
            assert (await counted(sessions)).total() == 5
            assert await timed(sessions) == 5

        await eventually(five)
        front.kill()
        await front.start()
        await front.call(9)  # more than before: only the incarnation tells that these are all new

        async def fourteen() -> None:
            assert (await counted(sessions)).total() == 14
            assert await timed(sessions) == 14

        await eventually(fourteen)


async def test_the_database_away_for_a_while_loses_nothing(
    front: Front, sessions: Sessions, deploy: Deploy, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    await deploy("churn")
    async with scraping(front, environment, monkeypatch):
        await front.call(5)
        async with sessions() as session:
            others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'moorage-metrics'"
            await session.execute(text(others))
        await front.call(5)

        async def ten() -> None:
            assert (await counted(sessions)).total() == 10

        await eventually(ten)


async def test_an_id_given_again_inherits_nothing(
    front: Front, sessions: Sessions, deploy: Deploy, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    old = await deploy("churn")
    async with scraping(front, environment, monkeypatch):
        await front.call(5)

        async def five() -> None:
            assert await counted(sessions, "uid") == {(old,): 5}

        await eventually(five)
        async with sessions.begin() as session:
            await session.execute(update(Deployment).values(deleted_at=func.now()))
        new = await deploy("churn")
        # What is counted from the deletion to the next scrape may be either's; it is given to the old one.
        await front.call(1)

        async def six() -> None:
            assert (await counted(sessions)).total() == 6

        await eventually(six)
        before = await counted(sessions, "uid")
        await front.call(3)

        async def nine() -> None:
            assert (await counted(sessions, "uid"))[new,] == before[new,] + 3

        await eventually(nine)
        assert (await counted(sessions, "uid"))[old,] in (5, 6)


async def test_idle_series_write_nothing(
    front: Front, sessions: Sessions, deploy: Deploy, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    await deploy("churn")
    async with scraping(front, environment, monkeypatch):
        await front.call(1)

        async def one() -> None:
            assert await timed(sessions) == 1

        await eventually(one)
        async with sessions() as session:
            before = (await session.execute(select(ScrapeSource.scraped_at))).scalar_one()
        await scraped(front, times=3)
        async with sessions() as session:
            assert (await session.execute(select(ScrapeSource.scraped_at))).scalar_one() == before
            assert (await session.execute(select(func.count()).select_from(request_samples))).scalar_one() == 1


async def scraped(front: Front, *, times: int) -> None:
    """Wait until so many more scrapes have been made."""
    done = SCRAPES.labels(front.admin, "ok")._value.get
    goal = done() + times

    async def made() -> None:
        assert done() >= goal

    await eventually(made)
