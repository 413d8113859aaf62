"""An admin that gives garbage, errors or half an answer: nothing of it is counted, and nothing is lost by it."""

import asyncio

import httpx
from sqlalchemy import func, select
from structlog.testing import capture_logs

from services.metrics.envoy import Admin
from services.metrics.scraper import Scraper
from shared.database import Sessions, create_engine
from shared.schema import request_samples
from tests.metrics.conftest import Deploy, eventually


def stats(count: int) -> httpx.Response:
    name = "moorage.requests.deployment.churn.version.churn/1.code.200.client.ana"
    return httpx.Response(200, text=f"{name}: {count}\nserver.live: 1\n")


async def test_nothing_is_lost_by_garbage(database_url: str, sessions: Sessions, deploy: Deploy) -> None:
    await deploy("churn")
    started = "2026-11-20T19:00:00.000Z"
    answers = [
        stats(5),
        httpx.Response(500, text="no"),
        httpx.Response(200, text=""),
        httpx.Response(200, text="<html>"),
        httpx.Response(200, content=stats(7).content[:40]),
        httpx.ReadTimeout("slow"),
        stats(9),
    ]
    asked = 0

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal asked
        if request.url.path == "/config_dump":
            return httpx.Response(200, json={"configs": [{"last_updated": started}]})
        found = answers[min(asked, len(answers) - 1)]
        asked += 1
        if isinstance(found, httpx.Response):
            return found
        raise found

    async def nine() -> None:
        assert asked >= len(answers)
        async with sessions() as session:
            assert (await session.execute(select(func.sum(request_samples.c.count)))).scalar_one() == 9

    engine = create_engine(database_url, application="test", connections=2)
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        with capture_logs() as logs:
            task = asyncio.create_task(Scraper(engine, Admin("http://admin", client), every=0.1).run())
            await eventually(nine)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    await engine.dispose()
    assert [log["event"] for log in logs].count("scrape.unreadable") == 5
    assert any("status 500" in log.get("error", "") for log in logs)
