"""What the control plane adds on Kubernetes: to the births of many deployments, to one change, to a replica's death.

    .venv/bin/python -m bench.kubernetes [--births 500] [--births 1000] [--changes 100] [--deaths 50] [--idle 5000]

A real etcd, API server, controller manager and scheduler; the nodes and their pods are kwok's, so nothing competes but
control planes. Ours is whole: PostgreSQL, Envoy, four services, the chart's service account. Beside it, in the same
run and on the same cluster, a plain client does by hand what the promise compares with:

- births: eight clients at a time create deployments through our API, until all are Deployed; the plain client applies a
  Deployment and a Service each, eight at a time, until all are ready. Also each one's own wait, from the call of our
  API to its Deployment object as a watch sees it.
- changes: one value of an environment, from the call to the Deployment object as a watch sees it; against a patch.
- deaths: from the pod that is not ready any more, as a watch sees it, until Envoy has no endpoint of it.
- idle: what the deployer takes with so many deployments when nothing happens.
"""

import argparse
import asyncio
import contextlib
import json
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
from rich.console import Console
from rich.table import Table

from tests.servers import chart, kubernetes, kwok
from tests.support.platform import RunningPlatform, running_platform

CLIENTS = 8
PLAIN = "plain"
"""The namespace of what the plain client makes."""
GROUP = "bench"
IDLE_SECONDS = 60.0


@dataclass
class Cluster:
    """The administrator's view of the cluster, and of what changes in it."""

    http: httpx.AsyncClient
    seen: dict[str, float] = field(default_factory=dict)
    """When a watch first saw something, by a key that the watcher makes of the object."""

    async def apply(self, path: str, manifest: dict[str, Any]) -> None:
        headers = {"Content-Type": "application/apply-patch+yaml"}
        parameters = {"fieldManager": "bench", "force": "true"}
        answer = await self.http.patch(path, content=json.dumps(manifest), headers=headers, params=parameters)
        answer.raise_for_status()

    async def delete_all(self, namespace: str) -> None:
        for path in (f"/apis/apps/v1/namespaces/{namespace}/deployments", f"/api/v1/namespaces/{namespace}/services"):
            for each in (await self.http.get(path)).json()["items"]:
                await self.http.delete(f"{path}/{each['metadata']['name']}")
        pods = f"/api/v1/namespaces/{namespace}/pods"
        await _until_none(self.http, pods)

    @contextlib.asynccontextmanager
    async def watching(self, path: str, key: Callable[[dict[str, Any]], str | None]) -> AsyncIterator[None]:
        """Note in `seen` when an object first gave this key."""
        since = (await self.http.get(path, params={"limit": 1})).json()["metadata"]["resourceVersion"]
        begun = asyncio.Event()

        async def follow() -> None:
            parameters = {"watch": "true", "resourceVersion": since}
            async with self.http.stream("GET", path, params=parameters, timeout=None) as answer:
                begun.set()
                async for line in answer.aiter_lines():
                    if found := key(json.loads(line)["object"]):
                        self.seen.setdefault(found, time.perf_counter())

        task = asyncio.create_task(follow())
        try:
            await begun.wait()
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def when(self, key: str) -> float:
        while key not in self.seen:  # noqa: ASYNC110 - a millisecond is fine enough, and simple
            await asyncio.sleep(0.001)
        return self.seen[key]


class Bench:
    """One platform and one cluster."""

    def __init__(self, platform: RunningPlatform, cluster: Cluster, api: httpx.AsyncClient) -> None:
        self.platform, self.cluster, self.api = platform, cluster, api

    async def births(self, count: int) -> dict[str, float]:
        """Both ways in turn, ours between two halves of the plain one's rounds."""
        plain = [await self._plain_births(count)]
        ours, waits = await self.create_many(count)
        plain.append(await self._plain_births(count))
        await self.delete_all()
        best = statistics.mean(plain)
        return {
            "plain_s": best,
            "plain_spread_s": max(plain) - min(plain),
            "ours_s": ours,
            "ratio": ours / best,
            "own_wait_p50_s": _percentile(waits, 50),
            "own_wait_p99_s": _percentile(waits, 99),
        }

    async def changes(self, count: int) -> dict[str, float]:
        """One after the other, on a deployment among those that are there."""
        names = [f"d{number}" for number in range(count)]
        ours, plain = [], []
        deployments = f"/apis/apps/v1/namespaces/{PLAIN}/deployments"
        for name in names[:1]:
            await self._apply_plain(name)
        async with self.cluster.watching("/apis/apps/v1/deployments", _value):
            for number in range(count):
                began = time.perf_counter()
                body = {"env": {"BENCH": f"ours-{number}"}}
                answer = await self.api.patch(f"/deployments/{names[number]}/versions/1", json=body)
                answer.raise_for_status()
                ours.append(await self.cluster.when(f"ours-{number}") - began)
                began = time.perf_counter()
                container = {"name": "replica", "env": [{"name": "BENCH", "value": f"plain-{number}"}]}
                patch = {"spec": {"template": {"spec": {"containers": [container]}}}}
                headers = {"Content-Type": "application/strategic-merge-patch+json"}
                path = f"{deployments}/{names[0]}"
                (await self.cluster.http.patch(path, content=json.dumps(patch), headers=headers)).raise_for_status()
                plain.append(await self.cluster.when(f"plain-{number}") - began)
        figures: dict[str, float] = {}
        for percent in (50, 99):
            one, other = _percentile(ours, percent), _percentile(plain, percent)
            figures |= {
                f"ours_p{percent}_ms": one * 1e3,
                f"plain_p{percent}_ms": other * 1e3,
                f"p{percent}": one / other,
            }
        return figures

    async def deaths(self, count: int) -> dict[str, float]:
        """Each of a fresh deployment's pod, one after the other, told by the pod's status."""
        await self._create("mortal", replicas=2)
        await self._until_deployed(["mortal"])
        pods = f"/api/v1/namespaces/moorage-{GROUP}/pods"
        mine = {"labelSelector": "moorage.io/deployment=mortal"}
        taken = []
        async with self.cluster.watching(pods, _unready), httpx.AsyncClient() as admin:
            for _ in range(count):
                found = (await self.cluster.http.get(pods, params=mine)).json()["items"]
                pod = min((each for each in found if _is_ready(each)), key=lambda each: each["metadata"]["name"])
                name, address = pod["metadata"]["name"], pod["status"]["podIP"]
                await self._endpoint(admin, address, there=True)
                statuses = [{**each, "ready": False} for each in pod["status"]["containerStatuses"]]
                conditions = [
                    {**each, "status": "False"} if each["type"] in ("Ready", "ContainersReady") else each
                    for each in pod["status"]["conditions"]
                ]
                patch = {"status": {"containerStatuses": statuses, "conditions": conditions}}
                headers = {"Content-Type": "application/merge-patch+json"}
                path = f"{pods}/{name}/status"
                (await self.cluster.http.patch(path, content=json.dumps(patch), headers=headers)).raise_for_status()
                gone = await self._endpoint(admin, address, there=False)
                taken.append(gone - await self.cluster.when(name))
                await self.cluster.http.delete(f"{pods}/{name}", params={"gracePeriodSeconds": 0})
                await self._until_deployed(["mortal"])
        (await self.api.delete("/deployments/mortal", params={"wait": "settled"})).raise_for_status()
        return {f"p{percent}_ms": _percentile(taken, percent) * 1e3 for percent in (50, 90, 99)}

    async def idle(self, count: int) -> dict[str, float]:
        await self.create_many(count)
        process = self.platform.process("deployer")
        assert process is not None
        deployer = psutil.Process(process.pid)
        before, began = deployer.cpu_times(), time.perf_counter()
        await asyncio.sleep(IDLE_SECONDS)
        after, seconds = deployer.cpu_times(), time.perf_counter() - began
        used = after.user + after.system - before.user - before.system
        return {"cpu_percent": 100 * used / seconds, "memory_MiB": deployer.memory_info().rss / 2**20}

    # Ours

    async def create_many(self, count: int) -> tuple[float, list[float]]:
        """Seconds until all are Deployed, and each one's own until its Deployment object is there."""
        names = [f"d{number}" for number in range(count)]
        started: dict[str, float] = {}

        async def one(name: str) -> None:
            started[name] = time.perf_counter()
            await self._create(name)

        self.cluster.seen.clear()
        async with self.cluster.watching("/apis/apps/v1/deployments", _deployment):
            began = time.perf_counter()
            await _eight_at_a_time(one, names)
            await self._until_deployed(names)
            whole = time.perf_counter() - began
        return whole, [self.cluster.seen[name] - started[name] for name in names]

    async def _create(self, name: str, *, replicas: int = 1) -> None:
        body = {"id": name, "group": GROUP, "model": f"{GROUP}/model/1", "instance_type": "tiny", "replicas": replicas}
        answer = await self.api.post("/deployments", json=body)
        answer.raise_for_status()

    async def _until_deployed(self, names: Sequence[str]) -> None:
        parameters = {"phase": "Deployed", "count": "true", "limit": "1"}
        while True:
            answer = (await self.api.get("/deployments", params=parameters)).raise_for_status().json()
            if answer["total"] >= len(names):
                return
            await asyncio.sleep(0.1)

    async def delete_all(self) -> None:
        while found := (await self.api.get("/deployments", params={"limit": 200})).json()["items"]:
            await _eight_at_a_time(lambda name: self.api.delete(f"/deployments/{name}"), [each["id"] for each in found])
        pods = f"/api/v1/namespaces/moorage-{GROUP}/pods"
        await _until_none(self.cluster.http, pods)

    async def _endpoint(self, admin: httpx.AsyncClient, address: str, *, there: bool) -> float:
        """When Envoy had, or had no more, an endpoint of this address."""
        url = f"http://127.0.0.1:{self.platform.here.ports['envoy_admin']}/clusters"
        while (f"{address}:8080::" in (await admin.get(url)).text) is not there:  # noqa: ASYNC110 - Envoy tells nobody
            await asyncio.sleep(0)
        return time.perf_counter()

    # The plain client

    async def _plain_births(self, count: int) -> float:
        names = [f"p{number}" for number in range(count)]
        path = f"/apis/apps/v1/namespaces/{PLAIN}/deployments"
        self.cluster.seen.clear()
        async with self.cluster.watching(path, _ready_name):
            began = time.perf_counter()
            await _eight_at_a_time(self._apply_plain, names)
            for name in names:
                await self.cluster.when(name)
            whole = time.perf_counter() - began
        await self.cluster.delete_all(PLAIN)
        return whole

    async def _apply_plain(self, name: str) -> None:
        labels = {"app": name}
        resources = {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "16Mi"}}
        container = {
            "name": "replica",
            "image": "moorage/modelserver",
            "ports": [{"containerPort": 8080}],
            "resources": resources,
            "readinessProbe": {"httpGet": {"path": "/readyz", "port": 8080}},
        }
        template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
        deployment = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "namespace": PLAIN},
            "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": template},
        }
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": PLAIN},
            "spec": {"selector": labels, "ports": [{"port": 8080}]},
        }
        await self.cluster.apply(f"/apis/apps/v1/namespaces/{PLAIN}/deployments/{name}", deployment)
        await self.cluster.apply(f"/api/v1/namespaces/{PLAIN}/services/{name}", service)


async def _until_none(http: httpx.AsyncClient, path: str) -> None:
    while (await http.get(path, params={"limit": 1})).json()["items"]:  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.2)


async def _eight_at_a_time(call: Callable[[str], Awaitable[object]], names: Sequence[str]) -> None:
    left = iter(names)

    async def work() -> None:
        for name in left:
            await call(name)

    await asyncio.gather(*(work() for _ in range(CLIENTS)))


def _percentile(values: Sequence[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


# Keys of what a watch sees.


def _deployment(found: dict[str, Any]) -> str | None:
    labels: dict[str, str] = found["metadata"].get("labels", {})
    return labels.get("moorage.io/deployment")


def _ready_name(found: dict[str, Any]) -> str | None:
    return found["metadata"]["name"] if found["status"].get("readyReplicas") else None


def _value(found: dict[str, Any]) -> str | None:
    env: list[dict[str, str]] = found["spec"]["template"]["spec"]["containers"][0].get("env", [])
    value: str | None = next((each.get("value") for each in env if each["name"] == "BENCH"), None)
    return value


def _unready(found: dict[str, Any]) -> str | None:
    return None if _is_ready(found) or not found["status"].get("podIP") else found["metadata"]["name"]


def _is_ready(pod: dict[str, Any]) -> bool:
    conditions = {each["type"]: each["status"] for each in pod["status"].get("conditions", [])}
    return conditions.get("ContainersReady") == "True"


@contextlib.contextmanager
def everything(folder: Path, *, pods: int) -> Iterator[tuple[RunningPlatform, kubernetes.ControlPlane]]:
    # Enough nodes that the scheduler never has to say no.
    with kubernetes.running() as plane, kwok.running(plane, nodes=2 + pods // 200):
        chart.install(plane.admin)
        plane.admin.call("POST", "/api/v1/namespaces", {"metadata": {"name": PLAIN}})
        settings = {
            "MOORAGE_PLATFORM": "kubernetes",
            "MOORAGE_KUBERNETES_CONFIG": str(plane.admin.kubeconfig_for(chart.SERVICE_ACCOUNT)),
            "MOORAGE_KUBERNETES_MODEL_SERVER_IMAGE": "moorage/modelserver",
        }
        with running_platform(folder, **settings) as platform:
            platform.group(GROUP)
            platform.model(GROUP, "model")
            size = {"id": "tiny", "cpu": "10m", "memory": "16Mi"}
            platform.api.post("/instance-types", json=size).raise_for_status()
            yield platform, plane


async def measure(
    platform: RunningPlatform, plane: kubernetes.ControlPlane, given: argparse.Namespace
) -> dict[str, dict[str, float]]:
    figures = {}
    token = json.loads(plane.kubeconfig.read_text())["users"][0]["user"]["token"]
    many = httpx.Limits(max_connections=64)
    async with (
        httpx.AsyncClient(
            base_url=plane.url(),
            headers={"Authorization": f"Bearer {token}"},
            verify=httpx.create_ssl_context(verify=str(plane.authority)),
            timeout=60,
            limits=many,
        ) as admin,
        httpx.AsyncClient(base_url=platform.api.base_url, headers=platform.api.headers, timeout=60) as api,
    ):
        bench = Bench(platform, Cluster(admin), api)
        await bench.births(20)  # a warm-up: connections, caches, the namespace
        for count in given.births:
            figures[f"births of {count}"] = await bench.births(count)
        if given.deaths:
            figures["deaths"] = await bench.deaths(given.deaths)
        if given.changes:
            await bench.create_many(500)
            figures["changes among 500"] = await bench.changes(given.changes)
            await bench.delete_all()
        if given.idle:
            figures[f"idle with {given.idle}"] = await bench.idle(given.idle)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--births", type=int, action="append", default=[])
    parser.add_argument("--changes", type=int, default=0)
    parser.add_argument("--deaths", type=int, default=0)
    parser.add_argument("--idle", type=int, default=0)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="moorage-bench-") as folder:
        pods = max([1000, *given.births, given.idle])
        with everything(Path(folder), pods=pods) as (platform, plane):
            figures = asyncio.run(measure(platform, plane, given))
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2))
    table = Table("what", "figure", "value")
    for what, values in figures.items():
        for name, value in values.items():
            table.add_row(what, name, f"{value:.3g}")
    Console().print(table)


if __name__ == "__main__":
    main()
