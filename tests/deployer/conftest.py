"""The deployer's application on a platform in memory, with a group, models and instance types to deploy."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from sqlalchemy import update

from services.deployer.app import create_with
from services.deployer.settings import DeployerSettings
from shared.schema import Group, InstanceType, Model, ModelAlias, ModelVersion
from shared.service import Core
from tests.deployer.fakes import FakeGateway, FakePlatform
from tests.support.ports import free_port
from tests.support.services import People, serving

API = "/api/v1"
DEPLOYMENTS = f"{API}/deployments"


@dataclass
class Deployer:
    """The running service, `ana` who may edit group risk, and the world around it."""

    app: FastAPI
    core: Core
    client: httpx.AsyncClient
    people: People
    platform: FakePlatform
    gateway: FakeGateway
    ana: dict[str, str]

    async def call(
        self, method: str, path: str, body: Any = None, *, by: dict[str, str] | None = None, **headers: str
    ) -> httpx.Response:
        """As ana, unless `by` says otherwise; underscores in header names stand for hyphens."""
        sent = {**(by or self.ana), **{name.replace("_", "-"): value for name, value in headers.items()}}
        return await self.client.request(method, f"{API}{path}", json=body, headers=sent)

    async def ok(self, method: str, path: str, body: Any = None, **headers: Any) -> Any:
        answer = await self.call(method, path, body, **headers)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    async def deploy(self, id: str = "churn", **fields: Any) -> Any:  # noqa: A002 - the API's word
        """Published and settled."""
        body = {"id": id, "model": "risk/churn/1", **fields}
        return await self.ok("POST", "/deployments?wait=settled&timeout=10", body)

    async def until(self, condition: Callable[[dict[str, Any]], Any], id: str = "churn") -> dict[str, Any]:  # noqa: A002 - the API's word
        """The document once `condition` holds of it."""
        document: dict[str, Any] = {}

        async def holds() -> bool:
            nonlocal document
            document = await self.ok("GET", f"/deployments/{id}")
            return bool(condition(document))

        await eventually(holds, lambda: f"{document.get('status')}")
        return document

    async def until_phase(self, phase: str, id: str = "churn") -> dict[str, Any]:  # noqa: A002 - the API's word
        def reached(document: dict[str, Any]) -> bool:
            status = document["status"]
            return status["phase"] == phase and status["observed_generation"] == document["generation"]

        return await self.until(reached, id)

    async def quota(self, group: str = "risk", **values: Any) -> None:
        async with self.core.sessions.begin() as session:
            await session.execute(update(Group).where(Group.id == group).values(values))


async def eventually(
    condition: Callable[[], Awaitable[bool] | bool], about: Callable[[], str] = str, *, within: float = 10.0
) -> None:
    deadline = time.monotonic() + within
    while True:
        found = condition()
        if found if isinstance(found, bool) else await found:
            return
        if time.monotonic() > deadline:
            pytest.fail(f"not within {within} s: {about()}")
        await asyncio.sleep(0.01)


def settings_of(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, **more: str) -> DeployerSettings:
    for name, value in {**environment, **more}.items():
        monkeypatch.setenv(name, value)
    return DeployerSettings()


async def furnish(core: Core) -> None:
    """What the registry would have written."""
    async with core.sessions.begin() as session:
        for size, (cpu, memory) in {"cpu-1": (1, 2**30), "cpu-4": (4, 2**32)}.items():
            session.add(InstanceType(id=size, name=size, cpu=cpu, memory=memory, groups=None))
        session.add(InstanceType(id="vip", name="vip", cpu=1, memory=2**20, groups=["vips"]))
        if await session.get(Group, "risk") is None:
            session.add(Group(id="risk", name="risk"))
        await session.flush()
        for name in ("churn", "fraud"):
            model = Model(group_id="risk", name=name, latest=3, created_by="ana", framework="sklearn")
            session.add(model)
            await session.flush()
            for number in (1, 2, 3):
                digest = f"sha256:{len(name)}{number:063d}"
                session.add(
                    ModelVersion(
                        model_id=model.id,
                        number=number,
                        artifact=f"registry://{digest}",
                        digest=digest,
                        size=10,
                        created_by="ana",
                    )
                )
            await session.flush()
            session.add(ModelAlias(model_id=model.id, alias="champion", number=2))


@pytest.fixture
async def deployer(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Deployer]:
    settings = settings_of(environment, monkeypatch, MOORAGE_RESYNC_SECONDS="0.5")
    core, platform = Core(settings, service="deployer"), FakePlatform()
    app = create_with(settings, core=core, platform=platform)
    async with serving(app) as client:
        people = People.of(app)
        ana = await people.add("ana", groups=[("risk", "edit")])
        await furnish(core)
        async with FakeGateway(core.sessions, core.hints) as gateway:
            platform.forbidden = gateway.routes
            yield Deployer(app, core, client, people, platform, gateway, ana)


@pytest.fixture
async def server(deployer: Deployer) -> AsyncIterator[httpx.AsyncClient]:
    """The same application, listening."""
    port = free_port()
    config = uvicorn.Config(deployer.app, port=port, lifespan="off", log_config=None, ws="none")
    listening = uvicorn.Server(config)
    task = asyncio.create_task(listening.serve())
    await eventually(lambda: listening.started)
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}/api/v1", headers=deployer.ana, timeout=10
    ) as client:
        yield client
    deployer.core.stopping.set()
    listening.should_exit = True
    await task
