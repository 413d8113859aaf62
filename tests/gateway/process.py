"""The gateway as a process of its own, for what only that shows: its logs, its command line, any bytes on its port."""

import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.gateway.envoy.harness import ROOT, Child, until
from tests.gateway.world import settings_of
from tests.support.ports import free_port


@dataclass
class GatewayProcess:
    """`http` calls it without a token."""

    url: str
    http: httpx.AsyncClient
    environment: dict[str, str]
    log: Path

    @property
    def port(self) -> int:
        return int(self.environment["MOORAGE_PORT"])

    async def signed_in(self, user: str, password: str) -> dict[str, str]:
        """The answer of the token endpoint."""
        form = {"grant_type": "password", "username": user, "password": password}
        answer = await self.http.post("/api/v1/auth/token", data=form)
        assert answer.status_code == 200, answer.text
        tokens: dict[str, str] = answer.json()
        return tokens


@asynccontextmanager
async def gateway_process(environment: Mapping[str, str], folder: Path) -> AsyncIterator[GatewayProcess]:
    settings = settings_of(environment, folder) | {"MOORAGE_PORT": str(free_port()), "MOORAGE_LOG_LEVEL": "debug"}
    url = f"http://127.0.0.1:{settings['MOORAGE_PORT']}"
    log = folder / "gateway.log"
    with Child([sys.executable, "-m", "services.gateway"], log=log, env=settings):
        async with httpx.AsyncClient(base_url=url, timeout=20) as http:

            async def ready() -> bool:
                return (await http.get("/readyz")).status_code == 200

            await until(ready, within=30, what="the gateway's process is ready")
            yield GatewayProcess(url, http, settings, log)


def create_admin(environment: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return _run(environment, "create-admin", *arguments)


def verify_audit(environment: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return _run(environment, "verify-audit", *arguments)


def _run(environment: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "services.gateway", *arguments]
    return subprocess.run(command, env=dict(environment), cwd=ROOT, capture_output=True, text=True, check=False)
