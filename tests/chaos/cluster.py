"""A whole platform on a cluster of fake nodes, with the chart's service account, and what is really on that cluster.

Between the deployer and the API server stands the proxy that misbehaves as told. Pods are kwok's: they have fates
instead of models, and nobody answers at their addresses.
"""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.servers import chart, kubernetes, kwok
from tests.servers.faults import Faults
from tests.servers.kubernetes import ControlPlane
from tests.servers.kwok import Kwok
from tests.support.platform import RunningPlatform, running_platform

GROUP = "fire"
NAMESPACE = f"moorage-{GROUP}"
OURS = "app.kubernetes.io/managed-by=moorage"
UID, VERSION, DEPLOYMENT = "moorage.io/uid", "moorage.io/version", "moorage.io/deployment"
KINDS = {
    "Deployment": "/apis/apps/v1/deployments",
    "ReplicaSet": "/apis/apps/v1/replicasets",
    "Pod": "/api/v1/pods",
    "Secret": "/api/v1/secrets",
    "ConfigMap": "/api/v1/configmaps",
    "Service": "/api/v1/services",
    "HorizontalPodAutoscaler": "/apis/autoscaling/v2/horizontalpodautoscalers",
}
PODS_OF_A_NODE = 500

Object = dict[str, Any]


@dataclass
class Cluster:
    """`platform` runs its replicas on `plane`, and reaches it through `faults`."""

    platform: RunningPlatform
    plane: ControlPlane
    nodes: Kwok
    faults: Faults

    def objects(self) -> dict[str, list[Object]]:
        """All that is labelled as ours, by kind; not the namespaces."""
        return {kind: self.plane.admin.call("GET", path, labelSelector=OURS)["items"] for kind, path in KINDS.items()}

    def versions(self) -> dict[tuple[str, str, str], str]:
        """The resource version of each of them, by kind, namespace and name."""
        return {
            (kind, each["metadata"]["namespace"], each["metadata"]["name"]): each["metadata"]["resourceVersion"]
            for kind, found in self.objects().items()
            for each in found
        }

    def endpoints(self) -> set[str]:
        """The addresses of pods that Envoy sends requests to."""
        port = self.platform.here.ports["envoy_admin"]
        lines = self.platform.http.get(f"http://127.0.0.1:{port}/clusters").text.splitlines()
        addresses = {line.split("::")[1] for line in lines if line.count("::") > 1}
        return {each for each in addresses if each.startswith("10.245.")}

    def refused(self) -> str:
        """What the deployer has been forbidden since it was started last: nothing, if the chart is right."""
        port = self.platform.here.ports["deployer"]
        lines = self.platform.http.get(f"http://127.0.0.1:{port}/metrics").text.splitlines()
        return "\n".join(
            line for line in lines if line.startswith("moorage_kubernetes_requests_total{") and 'code="403"' in line
        )


def differences(objects: Mapping[str, list[Object]], documents: Collection[Object]) -> list[str]:
    """Where the cluster is other than the API's documents of all deployments say, in words. Pure."""
    wanted = {
        (document["uid"], str(version["number"])): (document, version)
        for document in documents
        for version in document["versions"]
    }
    found = [
        f"{kind} {each['metadata']['name']} is nobody's"
        for kind, items in objects.items()
        for each in items
        if _key(each) not in wanted
    ]
    roots, pods = _by_key(objects["Deployment"]), _by_key(objects["Pod"])
    extras = {
        "Secret": lambda version: 1,
        "ConfigMap": lambda version: int(bool(version["config_files"])),
        "Service": lambda version: int(bool(version["service"])),
        "HorizontalPodAutoscaler": lambda version: int(version["replicas"]["min"] < version["replicas"]["max"]),
    }
    counts = {kind: Counter(map(_key, objects[kind])) for kind in extras}
    for key, (document, version) in wanted.items():
        name = f"{document['id']} v{version['number']}"
        there, stopped = roots.get(key, []), document["stopped"]
        if len(there) != 1:
            if there or not stopped:  # what is stopped before it ever ran has none
                found.append(f"{name} has {len(there)} Deployments")
            continue
        least, most = (0, 0) if stopped else (version["replicas"]["min"], version["replicas"]["max"])
        if not least <= there[0]["spec"]["replicas"] <= most:
            found.append(f"{name} has spec.replicas {there[0]['spec']['replicas']}, not {least} to {most}")
        if there[0]["spec"]["replicas"] != len(pods.get(key, [])):
            found.append(f"{name} has {len(pods.get(key, []))} pods, not {there[0]['spec']['replicas']}")
        if stopped:
            continue
        for each in (there[0]["spec"]["template"], *pods.get(key, [])):
            env = {one["name"]: one.get("value") for one in each["spec"]["containers"][0]["env"]}
            if version["env"].items() - env.items():
                found.append(f"{name} has {env.get('BUILD')}, not {version['env']}")
        found += [f"{name}: pod {each['metadata']['name']} is not Ready" for each in pods[key] if not _is_ready(each)]
        found += [
            f"{name} has {counts[kind][key]} of {kind}"
            for kind, of in extras.items()
            if counts[kind][key] != of(version)
        ]
    return found


def _key(found: Object) -> tuple[str, str]:
    labels = found["metadata"]["labels"]
    return labels[UID], labels[VERSION]


def _by_key(items: list[Object]) -> dict[tuple[str, str], list[Object]]:
    found: dict[tuple[str, str], list[Object]] = {}
    for each in items:
        found.setdefault(_key(each), []).append(each)
    return found


def _is_ready(pod: Object) -> bool:
    conditions = {each["type"]: each["status"] for each in pod["status"].get("conditions", ())}
    return conditions.get("Ready") == "True" and "deletionTimestamp" not in pod["metadata"]


@contextmanager
def running_cluster(folder: Path, *, deployments: int = 100) -> Iterator[Cluster]:
    """With room for so many deployments of several versions and replicas."""
    with (
        kubernetes.running() as plane,
        kwok.running(plane, nodes=1 + deployments * 10 // PODS_OF_A_NODE) as nodes,
        _proxied(plane) as faults,
    ):
        chart.install(plane.admin)
        settings = {
            "MOORAGE_PLATFORM": "kubernetes",
            "MOORAGE_KUBERNETES_CONFIG": str(faults.kubeconfig_for(chart.SERVICE_ACCOUNT)),
            "MOORAGE_KUBERNETES_MODEL_SERVER_IMAGE": "moorage/modelserver",
            "MOORAGE_RESYNC_SECONDS": "5",
        }
        with running_platform(folder, **settings) as platform:
            platform.group(GROUP)
            platform.model(GROUP, "model")
            size = {"id": "tiny", "cpu": "10m", "memory": "16Mi"}
            platform.api.post("/instance-types", json=size).raise_for_status()
            yield Cluster(platform, plane, nodes, faults)


@contextmanager
def _proxied(plane: ControlPlane) -> Iterator[Faults]:
    """In a thread of its own: it goes on while the test waits."""
    started: Future[tuple[Faults, Callable[[], object]]] = Future()

    async def serve() -> None:
        end, loop = asyncio.Event(), asyncio.get_running_loop()
        async with Faults(plane) as proxy:
            started.set_result((proxy, lambda: loop.call_soon_threadsafe(end.set)))
            await end.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    proxy, end = started.result(timeout=10)
    try:
        yield proxy
    finally:
        end()
        thread.join()
