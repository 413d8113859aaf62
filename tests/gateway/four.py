"""All four services' applications in this process, on one database: for what holds in each of them."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.deployer.app import create_with
from services.deployer.settings import DeployerSettings
from services.metrics.app import create as create_metrics
from services.registry.members.queries import unfollowed
from shared.service import Core
from tests.deployer.conftest import furnish
from tests.deployer.fakes import FakePlatform
from tests.gateway.world import Gateway, running_gateway, settings_of
from tests.registry.world import Registry, running_registry
from tests.support.services import serving
from tests.support.waiting import until

Headers = Mapping[str, str]


@dataclass(frozen=True)
class Four:
    """`root` is an administrator's headers; group `risk` has models to deploy."""

    services: Mapping[str, httpx.AsyncClient]
    gateway: Gateway
    registry: Registry
    root: Headers

    async def call(
        self, service: str, method: str, path: str, body: Any = None, *, by: Headers | None = None
    ) -> httpx.Response:
        """As the administrator, unless `by` says otherwise."""
        headers = dict(self.root if by is None else by)
        return await self.services[service].request(method, f"/api/v1{path}", json=body, headers=headers)

    async def claims_followed(self) -> None:
        """Until everybody's memberships are what identity providers say of them."""

        async def done() -> bool:
            async with self.registry.core.sessions() as session:
                return not await unfollowed(session, limit=1)

        await until(done)


@asynccontextmanager
async def running_four(
    environment: Mapping[str, str],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    of_gateway: Mapping[str, Any] | None = None,
    of_registry: Mapping[str, Any] | None = None,
) -> AsyncIterator[Four]:
    """`of_gateway` and `of_registry` are further settings of theirs."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings = DeployerSettings()
    core = Core(settings, service="deployer")
    async with AsyncExitStack() as running:
        given = settings_of(environment, folder) | dict(of_gateway or {})
        gateway = await running.enter_async_context(running_gateway(given))
        registry = await running.enter_async_context(running_registry(dict(environment), folder, **(of_registry or {})))
        await furnish(core)
        yield Four(
            services={
                "gateway": gateway.http,
                "registry": registry.http,
                "deployer": await running.enter_async_context(
                    serving(create_with(settings, core=core, platform=FakePlatform()))
                ),
                "metrics": await running.enter_async_context(serving(create_metrics()[1])),
            },
            gateway=gateway,
            registry=registry,
            root=registry.admin,
        )
