"""Calls go on whatever dies: a running model needs none of our processes but Envoy."""

import asyncio
import os
import signal
import threading
from collections import Counter
from pathlib import Path

import httpx
import pytest

from deploy.embedded.units import Unit, units
from shared.process import Process
from tests.support.platform import RunningPlatform, running_platform, succeeded, wait_until


class Caller:
    """Calls one private endpoint from a thread until stopped, and counts what came back."""

    def __init__(self, url: str, path: str, basic: tuple[str, str]) -> None:
        self.seen: Counter[object] = Counter()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(url + path, basic), daemon=True)

    def __enter__(self) -> "Caller":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self, url: str, basic: tuple[str, str]) -> None:
        with httpx.Client(timeout=10) as client:
            while not self._stop.is_set():
                try:
                    self.seen[client.post(url, json={}, auth=basic).status_code] += 1
                except httpx.HTTPError as error:
                    self.seen[repr(error)] += 1


@pytest.fixture
def survivor(tmp_path_factory: pytest.TempPathFactory):
    with running_platform(tmp_path_factory.mktemp("survivor")) as running:
        running.group("lab")
        size = {"id": "tiny", "name": "Tiny", "cpu": "100m", "memory": "256Mi"}
        succeeded(running.api.post("/instance-types", json=size))
        running.model("lab", "whoami")
        body = {"id": "alive", "group": "lab", "model": "lab/whoami/1", "instance_type": "tiny"}
        succeeded(running.api.post("/deployments", json=body))
        running.wait_phase("alive", "Deployed")
        yield running


def test_calls_go_on_with_everything_dead_and_a_cold_envoy_serves_the_last_state(survivor: RunningPlatform) -> None:
    good, revoked = survivor.client_token("alive", "good"), survivor.client_token("alive", "revoked")
    path = "/predict/alive/1"
    assert survivor.http.post(path, json={}, auth=("revoked", revoked)).status_code == 200
    succeeded(survivor.api.delete("/deployments/alive/clients/revoked"))
    assert survivor.http.post(path, json={}, auth=("revoked", revoked)).status_code == 401

    by_name = {unit.name: unit for unit in units(survivor.here)}
    with Caller(survivor.here.url, path, ("good", good)) as caller:
        os.kill(survivor.supervisor_pid(), signal.SIGKILL)  # or it would restart the others
        for name in ("registry", "deployer", "gateway", "metrics", "snapshot", "postgres"):
            survivor.kill(name)
        before = sum(caller.seen.values())
        wait_until(lambda: sum(caller.seen.values()) > before + 200, within=30, what="200 calls with everything dead")
    assert set(caller.seen) == {200}
    assert survivor.http.post(path, json={}, auth=("revoked", revoked)).status_code == 401
    assert survivor.http.post(path, json={}).status_code == 401

    survivor.kill("envoy")
    started = [asyncio.run(_start(survivor, by_name[name])) for name in ("snapshot", "envoy")]
    try:
        answer = wait_until(lambda: _answer(survivor, path, ("good", good)), within=20, what="a cold Envoy serves")
        assert answer.json()["data"]["caller"] == "good"
        assert survivor.http.post(path, json={}, auth=("revoked", revoked)).status_code == 401
        assert survivor.http.post(path, json={}).status_code == 401
    finally:
        for process in started:
            asyncio.run(process.kill())


async def _start(platform: RunningPlatform, unit: Unit) -> Process:
    return await Process.start(unit.argv, env=unit.env, cwd=Path("/"), output=platform.here.logs / f"{unit.name}.log")


def _answer(platform: RunningPlatform, path: str, basic: tuple[str, str]) -> httpx.Response | None:
    answer = platform.http.post(path, json={}, auth=basic)
    return answer if answer.status_code == 200 else None
