"""Watching deployments and following logs, over a real server: streams begin, go on, resume and end."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from sqlalchemy import func, update

from services.deployer.deployments import watching as watching_module
from services.deployer.platforms import PlatformError
from services.deployer.replicas.streams import followed
from shared.schema import Deployment
from tests.deployer.conftest import Deployer, eventually

EVENTS = {"Accept": "text/event-stream"}


class Events:
    """What a stream has said so far."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.ended = False

    async def read(self, response: httpx.Response) -> None:
        event: dict[str, Any] = {}
        async for line in response.aiter_lines():
            if line.startswith(":"):
                continue
            if not line:
                if event:
                    self.seen.append(event)
                event = {}
                continue
            name, _, value = line.partition(": ")
            event[name] = json.loads(value) if name == "data" else value
        self.ended = True

    def phases(self) -> list[str]:
        return [each["data"]["status"]["phase"] for each in self.seen if each["event"] == "changed"]


@asynccontextmanager
async def watching(client: httpx.AsyncClient, path: str, **headers: str) -> AsyncIterator[Events]:
    events = Events()
    async with client.stream("GET", path, headers={**EVENTS, **headers}) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        task = asyncio.create_task(events.read(response))
        try:
            yield events
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_one_deployment_is_watched_until_its_end(deployer: Deployer, server: httpx.AsyncClient) -> None:
    await deployer.deploy()
    async with watching(server, "/deployments/churn") as events:
        await eventually(lambda: events.phases() == ["Deployed"])
        await deployer.ok("POST", "/deployments/churn/stop?wait=settled")
        await eventually(lambda: events.phases()[-1] == "Stopped")
        last = events.seen[-1]["id"]
        await deployer.ok("DELETE", "/deployments/churn")
        await eventually(lambda: events.ended)
        assert events.seen[-1]["event"] == "deleted"
    assert len({each["id"] for each in events.seen}) == len(events.seen)
    await deployer.deploy("other")
    async with watching(server, "/deployments/other") as again:
        await eventually(lambda: bool(again.seen))
        last = again.seen[-1]["id"]
    async with watching(server, "/deployments/other", **{"Last-Event-ID": last}) as resumed:
        await deployer.ok("PATCH", "/deployments/other", {"description": "news"})
        await eventually(lambda: bool(resumed.seen))
        assert resumed.seen[0]["data"]["description"] == "news"


async def test_a_list_is_watched_and_resumed(deployer: Deployer, server: httpx.AsyncClient) -> None:
    await deployer.deploy("before")
    bob = await deployer.people.add("bob", groups=[("bobs", "edit"), ("risk", "read")])
    async with watching(server, "/deployments?group=risk") as events:
        await eventually(lambda: [each["event"] for each in events.seen] == ["ready"])
        body = {"id": "hidden", "group": "bobs", "model": "risk/churn/1"}
        await deployer.ok("POST", "/deployments", body, by=bob)
        await deployer.deploy("churn")
        await eventually(lambda: "Deployed" in events.phases())
        assert {each["data"]["id"] for each in events.seen[1:]} == {"churn"}
        last = events.seen[-1]["id"]
    await deployer.ok("DELETE", "/deployments/churn?wait=settled")
    await deployer.ok("PATCH", "/deployments/before", {"description": "news"})
    async with watching(server, "/deployments", **{"Last-Event-ID": last}) as resumed:
        await eventually(lambda: {"deleted", "changed"} <= {each["event"] for each in resumed.seen})
        gone = next(each for each in resumed.seen if each["event"] == "deleted")
        assert gone["data"]["id"] == "churn"
        assert any(each["data"].get("description") == "news" for each in resumed.seen)
    odd = await server.get("/deployments", headers={**EVENTS, "Last-Event-ID": "yesterday"})
    assert odd.status_code == 422


async def test_a_resumed_list_misses_nothing_however_much_has_changed(
    deployer: Deployer, server: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching_module, "_BATCH", 2)
    async with watching(server, "/deployments") as events:
        await eventually(lambda: bool(events.seen))
        last = events.seen[-1]["id"]
    ids = {f"churn-{number}" for number in range(7)}
    for each in sorted(ids):
        await deployer.ok("POST", "/deployments", {"id": each, "model": "risk/churn/1"})
    async with deployer.core.sessions.begin() as session:  # several in one place of the order
        await session.execute(update(Deployment).values(status_at=func.now()))
    async with watching(server, "/deployments", **{"Last-Event-ID": last}) as resumed:
        await eventually(lambda: bool(resumed.seen[1:]))
        # Whoever is cut off after the first event has not heard the others yet.
        cut = resumed.seen[1]["id"]
        await eventually(lambda: {each["data"].get("id") for each in resumed.seen[1:]} == ids)
    async with watching(server, "/deployments", **{"Last-Event-ID": cut}) as again:
        await eventually(lambda: {each["data"].get("id") for each in again.seen[1:]} == ids)


async def test_a_log_is_shown_followed_and_downloaded(deployer: Deployer, server: httpx.AsyncClient) -> None:
    await deployer.deploy()
    (replica,) = deployer.platform.started
    deployer.platform.lines[replica] = [f"line {number}" for number in range(3000)]
    path = f"/deployments/churn/replicas/{replica}/log"
    shown = await server.get(path)
    assert shown.headers["content-type"].startswith("text/plain")
    assert len(shown.text.splitlines()) == 2000
    assert (await server.get(f"{path}?tail=1")).text == "2026-01-01T00:00:00.000000Z line 2999\n"
    assert (await server.get(f"{path}?tail=2001")).status_code == 422
    whole = await server.get(f"{path}?download=true")
    assert len(whole.text.splitlines()) == 3000
    assert whole.headers["content-disposition"] == f'attachment; filename="{replica}.log"'
    for odd in (f"{path}?previous=true", "/deployments/churn/replicas/nobody/log"):
        assert (await server.get(odd)).status_code == 404
    deployer.platform.fail_at = {"logs": PlatformError("the API server does not answer")}
    away = await server.get(path)
    assert (away.status_code, away.json()["code"], away.headers["retry-after"]) == (503, "unavailable", "5")
    assert "the API server does not answer" in away.json()["detail"]
    async with server.stream("GET", f"{path}?follow=true&tail=1") as response:
        lines = response.aiter_lines()
        assert (await anext(lines)).endswith("line 2999")
        deployer.platform.lines[replica].append("news")
        assert (await anext(lines)).endswith("news")


async def test_a_log_is_not_followed_for_ever() -> None:
    async def lines() -> AsyncGenerator[str]:
        yield "one"
        await asyncio.Event().wait()

    async def talking() -> AsyncGenerator[str]:
        while True:
            yield "again"

    async with asyncio.timeout(5):
        assert [each async for each in followed(lines(), stopping=asyncio.Event(), longest=0.05)] == [b"one\n"]
        assert {each async for each in followed(talking(), stopping=asyncio.Event(), longest=0.05)} == {b"again\n"}


async def test_streams_end_when_the_service_stops(deployer: Deployer, server: httpx.AsyncClient) -> None:
    await deployer.deploy()
    (replica,) = deployer.platform.started
    async with (
        watching(server, "/deployments/churn") as one,
        watching(server, "/deployments") as many,
        server.stream("GET", f"/deployments/churn/replicas/{replica}/log?follow=true") as log,
    ):
        await eventually(lambda: bool(one.seen) and bool(many.seen))
        deployer.core.stopping.set()
        await eventually(lambda: one.ended and many.ended)
        assert [line async for line in log.aiter_lines()] == []
