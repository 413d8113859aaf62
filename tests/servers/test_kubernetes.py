"""That the control plane keeps what it has said, and that the proxy before it misbehaves as told."""

import asyncio
import json
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from tests.servers import kubernetes
from tests.servers.faults import Faults, some_of
from tests.servers.kubernetes import ControlPlane
from tests.support.waiting import until

pytestmark = [pytest.mark.kubernetes, pytest.mark.xdist_group("kubernetes")]

MAPS = "/api/v1/namespaces/default/configmaps"


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    """To be killed."""
    with kubernetes.running() as made:
        yield made


@pytest.fixture
async def faults(plane: ControlPlane) -> AsyncIterator[Faults]:
    async with Faults(plane) as proxy:
        yield proxy


@pytest.fixture
async def through(faults: Faults) -> AsyncIterator[httpx.AsyncClient]:
    """The administrator, through the proxy."""
    token = json.loads(faults.kubeconfig.read_text())["users"][0]["user"]["token"]
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=faults.url, headers=headers, timeout=30) as client:
        yield client


async def test_a_killed_api_server_comes_back_with_its_data_and_no_history(plane: ControlPlane) -> None:
    before = config_map(plane, "kept")
    config_map(plane, "later")
    plane.compact()
    plane.api_server.kill()
    await plane.start_api_server()
    assert plane.admin.call("GET", f"{MAPS}/kept") == before
    old = before["metadata"]["resourceVersion"]
    assert plane.admin.call("GET", MAPS, watch="1", resourceVersion=old)["object"]["code"] == 410


async def test_a_service_account_may_do_what_it_is_given(plane: ControlPlane) -> None:
    file = plane.admin.kubeconfig_for("default/default")
    user = json.loads(file.read_text())["users"][0]["user"]
    assert "system:serviceaccount:default:default" in plane.admin.kubectl("auth", "whoami", f"--token={user['token']}")
    with pytest.raises(RuntimeError, match="Forbidden"):
        plane.admin.kubectl("get", "pods", f"--kubeconfig={file}")


async def test_a_watch_is_cut(plane: ControlPlane, faults: Faults, through: httpx.AsyncClient) -> None:
    faults.cut_watches_after = 0.3
    config_map(plane, "seen")
    seen: list[str] = []
    async with through.stream("GET", MAPS, params={"watch": "1"}) as answer:
        with pytest.raises(httpx.RemoteProtocolError):
            await _read(answer, into=seen)
    assert any('"name":"seen"' in line for line in seen)


async def test_some_requests_are_refused(faults: Faults, through: httpx.AsyncClient) -> None:
    faults.refuse = some_of(0.5, seed=1)
    codes = Counter([(await through.get(MAPS)).status_code for _ in range(100)])
    assert set(codes) == {200, 429, 500}
    assert 30 < codes[200] < 70


async def test_an_answer_is_lost_after_the_deed(
    plane: ControlPlane, faults: Faults, through: httpx.AsyncClient
) -> None:
    faults.lose = lambda request: request.method == "POST"
    with pytest.raises(httpx.RemoteProtocolError):
        await through.post(MAPS, json={"metadata": {"name": "done"}})
    assert plane.admin.call("GET", f"{MAPS}/done") is not None


@pytest.mark.usefixtures("plane")  # where there can be none, there is nothing to survive
async def test_nothing_survives_a_killed_test_process(tmp_path: Path) -> None:
    program = f"""
import asyncio, pathlib, signal, sys
from tests.servers.kubernetes import ControlPlane
plane = ControlPlane(pathlib.Path({str(tmp_path)!r}))
asyncio.run(plane.start())
print(plane.etcd.pid, plane.api_server.pid, plane.controller_manager.pid, plane.scheduler.pid, flush=True)
signal.pause()
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=subprocess.PIPE)
    assert process.stdout is not None
    pids = [int(word) for word in (await process.stdout.readline()).split()]
    process.kill()
    await process.wait()
    assert len(pids) == 4
    await until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


async def _read(answer: httpx.Response, *, into: list[str]) -> None:
    async for line in answer.aiter_lines():
        into.append(line)  # noqa: PERF401 - what came before the cut counts


def config_map(plane: ControlPlane, name: str) -> dict[str, dict[str, str]]:
    made: dict[str, dict[str, str]] = plane.admin.call("POST", MAPS, {"metadata": {"name": name}})
    return made
