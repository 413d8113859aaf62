"""A whole platform of a test's own: every process real, entered by its front door."""

import asyncio
import os
import shutil
import signal
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console

from deploy.demo.journey import EXAMPLES, pack
from deploy.embedded.__main__ import create_admin, down, start_supervisor
from deploy.embedded.state import Installation
from deploy.embedded.supervisor import Supervisor
from deploy.embedded.units import units
from shared.process import Process, processes
from tests.support.ports import free_port
from tests.support.postgres import database_folder

START_SECONDS = 90.0


@dataclass
class RunningPlatform:
    """`api` has the administrator's token; `http` none."""

    here: Installation
    api: httpx.Client
    http: httpx.Client
    password: str
    secrets: list[str] = field(default_factory=list)

    def process(self, name: str) -> Process | None:
        """The unit's process as it runs now."""
        return Supervisor(self.here).adopt(next(unit for unit in units(self.here) if unit.name == name))

    def kill(self, name: str) -> None:
        """kill -9, without a warning."""
        if process := self.process(name):
            os.kill(process.pid, signal.SIGKILL)

    def supervisor_pid(self) -> int:
        return int((self.here.folder / "supervisor.pid").read_text().split()[0])

    def wait_ready(self) -> None:
        wait_until(lambda: asyncio.run(_all_ready(self.here)), within=START_SECONDS, what="all processes ready")

    def replica_shims(self) -> list[int]:
        """The processes that run replicas, one each, whoever started them."""
        lines = ((pid, _command_line(pid)) for pid, _ in processes())
        return [pid for pid, line in lines if "shim.py" in line and str(self.here.replicas) in line]

    def upload(self, folder: Path) -> str:
        headers = {"Content-Type": "application/octet-stream"}
        answer = succeeded(self.api.post("/artifacts", content=pack(folder), headers=headers))
        return str(answer.json()["uri"])

    def group(self, group: str, **quota: Any) -> None:
        body = {"id": group, "name": group, "quota": quota}
        succeeded(self.api.post("/groups", json=body))

    def model(self, group: str, name: str, folder: Path = EXAMPLES / "whoami") -> None:
        body = {"artifact": self.upload(folder)}
        succeeded(self.api.post(f"/models/{group}/{name}/versions", json=body))

    def client_token(self, deployment: str, name: str) -> str:
        answer = succeeded(self.api.post(f"/deployments/{deployment}/clients", json={"name": name}))
        token = str(answer.json()["token"])
        self.secrets.append(token)
        return token

    def wait_phase(self, deployment: str, phase: str, *, within: float = 60) -> dict[str, Any]:
        def reached() -> dict[str, Any] | None:
            answer = self.api.get(f"/deployments/{deployment}")
            if answer.status_code >= 500:
                return None
            document: dict[str, Any] = answer.json()
            status = document["status"]
            settled = status["phase"] == phase and status["observed_generation"] == document["generation"]
            return document if settled else None

        return wait_until(reached, within=within, what=f"{deployment} {phase}")


def succeeded(answer: httpx.Response) -> httpx.Response:
    """Unlike `raise_for_status` it says why not: the problem is in the body."""
    assert answer.is_success, f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text}"
    return answer


def wait_until(condition: Callable[[], Any], *, within: float, what: str) -> Any:
    """Ask until the answer is true; errors of a part that is away count as no."""
    deadline = time.monotonic() + within
    last: object = None
    while time.monotonic() < deadline:
        try:
            if found := condition():
                return found
            last = found
        except httpx.HTTPError as error:
            last = error
        time.sleep(0.05)
    raise AssertionError(f"not within {within} s: {what}; last: {last!r}")


@contextmanager
def running_platform(folder: Path, **environment: str) -> Iterator[RunningPlatform]:
    """Start everything, sign in, and stop everything in the end; nothing may be left but the logs, in `folder`."""
    with database_folder() as own:
        yield from _platform(Installation.open(own / "home", port=free_port()), folder / "logs", environment)


def _platform(here: Installation, logs: Path, environment: Mapping[str, str]) -> Iterator[RunningPlatform]:
    before = {key: os.environ.get(key) for key in environment}
    os.environ.update(environment)
    try:
        asyncio.run(start_supervisor(here))
        wait_until(lambda: asyncio.run(_all_ready(here)), within=START_SECONDS, what=f"all processes ready; see {logs}")
        password = create_admin(here)
        assert password
        with httpx.Client(base_url=here.url, timeout=30) as http:
            form = {"grant_type": "password", "username": "admin", "password": password}
            answer = wait_until(lambda: _ok(http.post("/api/v1/auth/token", data=form)), within=10, what="sign in")
            given = answer.json()
            headers = {"Authorization": f"Bearer {given['access_token']}"}
            with httpx.Client(base_url=f"{here.url}/api/v1", headers=headers, timeout=30) as api:
                secrets = [password, given["access_token"], given["refresh_token"]]
                yield RunningPlatform(here=here, api=api, http=http, password=password, secrets=secrets)
    finally:
        asyncio.run(down(here, Console(quiet=True)))
        shutil.copytree(here.logs, logs, dirs_exist_ok=True)
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value
    left = [pid for pid, _ in processes() if str(here.folder) in _command_line(pid)]
    assert not left, f"processes left behind: {left}"


async def _all_ready(here: Installation) -> bool:
    ready: list[Awaitable[bool]] = [unit.ready() for unit in units(here)]
    return all(await asyncio.gather(*ready))


def _ok(answer: httpx.Response) -> httpx.Response | None:
    return answer if answer.is_success else None


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""
