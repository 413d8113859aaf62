"""What goes wrong on a cluster without anybody's being killed: foreign hands on our objects, and pods that do not come
up. What is said of it at the front door, and that all of it heals."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from tests.chaos.cluster import DEPLOYMENT, GROUP, NAMESPACE, UID, Cluster
from tests.support.platform import wait_until

pytestmark = [pytest.mark.kubernetes, pytest.mark.chaos, pytest.mark.xdist_group("kubernetes")]

SETTLE = 60.0


@contextmanager
def deployed(cluster: Cluster, *bodies: dict[str, Any]) -> Iterator[None]:
    """Deployments, gone afterwards."""
    uids = set()
    for body in bodies:
        version = {"model": f"{GROUP}/model/1", "instance_type": "tiny", **body.pop("version", {})}
        answer = cluster.platform.api.post("/deployments", json={"group": GROUP, "versions": [version], **body})
        assert answer.is_success, answer.text
        uids.add(answer.json()["uid"])

    def nothing_is_left() -> bool:
        left = [each for found in cluster.objects().values() for each in found]
        return not uids & {each["metadata"]["labels"][UID] for each in left}

    try:
        yield
    finally:
        cluster.platform.wait_ready()
        for body in bodies:
            cluster.platform.api.delete(f"/deployments/{body['id']}").raise_for_status()
        wait_until(nothing_is_left, within=SETTLE, what="nothing is left")


def one_object(cluster: Cluster, kind: str, deployment: str) -> dict[str, Any] | None:
    """The only one of its kind, unless it is being deleted."""
    found = [
        each
        for each in cluster.objects()[kind]
        if each["metadata"]["labels"][DEPLOYMENT] == deployment and "deletionTimestamp" not in each["metadata"]
    ]
    return found[0] if len(found) == 1 else None


def path_of(found: dict[str, Any], plural: str) -> str:
    prefix = "/api/v1" if plural in ("secrets", "configmaps", "pods", "services") else "/apis/apps/v1"
    return f"{prefix}/namespaces/{NAMESPACE}/{plural}/{found['metadata']['name']}"


def test_what_a_foreign_hand_takes_or_changes_comes_back(cluster: Cluster) -> None:
    admin, platform = cluster.plane.admin, cluster.platform
    two = {"replicas": 2}
    configured = {**two, "config_files": {"labels.txt": "a"}}
    with deployed(cluster, {"id": "taken", "version": two}, {"id": "edited", "version": configured}):
        for name in ("taken", "edited"):
            platform.wait_phase(name, "Deployed")
        taken, edited = (one_object(cluster, "Deployment", name) for name in ("taken", "edited"))
        files = one_object(cluster, "ConfigMap", "edited")
        assert taken is not None
        assert edited is not None
        assert files is not None
        admin.call("DELETE", path_of(taken, "deployments"))
        container = {"name": "replica", "image": "somebody/elses"}
        patch = {"spec": {"replicas": 1, "template": {"spec": {"containers": [container]}}}}
        strategic = "--type=strategic"
        name = edited["metadata"]["name"]
        admin.kubectl("-n", NAMESPACE, "patch", "deployment", name, strategic, "-p", json.dumps(patch))
        admin.call("DELETE", path_of(files, "configmaps"))

        def taken_is_back() -> bool:
            found = one_object(cluster, "Deployment", "taken")
            return found is not None and found["status"].get("availableReplicas") == 2

        def edited_is_mended() -> bool:
            found = one_object(cluster, "Deployment", "edited")
            if found is None or one_object(cluster, "ConfigMap", "edited") is None:
                return False
            image = found["spec"]["template"]["spec"]["containers"][0]["image"]
            return image == "moorage/modelserver" and found["status"].get("availableReplicas") == 2

        wait_until(taken_is_back, within=SETTLE, what="the deleted Deployment, with its pods")
        wait_until(edited_is_mended, within=SETTLE, what="the Deployment and its ConfigMap as they were")
        for name in ("taken", "edited"):
            document = platform.wait_phase(name, "Deployed", within=SETTLE)
            assert document["revision"] == 1  # nobody asked for anything


def test_what_is_taken_while_no_deployer_looks_comes_back(cluster: Cluster) -> None:
    with deployed(cluster, {"id": "robbed"}):
        cluster.platform.wait_phase("robbed", "Deployed")
        secret = one_object(cluster, "Secret", "robbed")
        assert secret is not None
        cluster.platform.kill("deployer")
        cluster.plane.admin.call("DELETE", path_of(secret, "secrets"))
        wait_until(lambda: one_object(cluster, "Secret", "robbed"), within=SETTLE, what="the Secret is back")


def test_a_deployer_starts_while_the_api_server_is_away(cluster: Cluster) -> None:
    """It takes in what is asked, says what is lacking, forgets nothing that it knew, and goes on once it can."""
    platform = cluster.platform
    with deployed(cluster, {"id": "settled"}, {"id": "ended"}):
        for name in ("settled", "ended"):
            platform.wait_phase(name, "Deployed")
        replica = platform.api.get("/deployments/settled/replicas").json()["items"][0]["id"]
        cluster.plane.api_server.kill()
        try:
            platform.kill("deployer")
            ready = wait_until(lambda: _readiness(cluster, "degraded"), within=SETTLE, what="a deployer that lacks")
            assert ready["detail"].startswith("platform: ")
            log = platform.api.get(f"/deployments/settled/replicas/{replica}/log")
            assert (log.status_code, log.json()["code"]) == (503, "unavailable")
            body = {"id": "asked", "group": GROUP, "versions": [{"model": f"{GROUP}/model/1", "instance_type": "tiny"}]}
            platform.api.post("/deployments", json=body).raise_for_status()
            platform.api.post("/deployments/ended/stop").raise_for_status()
            assert platform.api.get("/deployments/settled").json()["status"]["phase"] == "Deployed"
        finally:
            asyncio.run(cluster.plane.start_api_server())
        platform.wait_phase("asked", "Deployed", within=SETTLE)
        platform.wait_phase("ended", "Stopped", within=SETTLE)
        assert [each["id"] for each in platform.api.get("/deployments/settled/replicas").json()["items"]] == [replica]
        wait_until(lambda: _readiness(cluster, "ok"), within=SETTLE, what="a deployer that lacks nothing")
        platform.api.delete("/deployments/asked").raise_for_status()
        wait_until(lambda: one_object(cluster, "Deployment", "asked") is None, within=SETTLE, what="nothing is left")


def test_a_version_that_is_dropped_while_all_is_stopped_leaves_nothing(cluster: Cluster) -> None:
    with deployed(cluster, {"id": "narrowed"}):
        api = cluster.platform.api
        version = {"model": f"{GROUP}/model/1", "instance_type": "tiny"}
        api.post("/deployments/narrowed/versions", json=version).raise_for_status()
        cluster.platform.wait_phase("narrowed", "Deployed")
        api.post("/deployments/narrowed/stop").raise_for_status()
        cluster.platform.wait_phase("narrowed", "Stopped")
        api.delete("/deployments/narrowed/versions/1").raise_for_status()
        wait_until(lambda: one_object(cluster, "Secret", "narrowed"), within=SETTLE, what="one version's objects")


def test_an_autoscalers_replicas_are_left_alone(cluster: Cluster) -> None:
    with deployed(cluster, {"id": "scaled", "version": {"replicas": {"min": 1, "max": 4}}}):
        cluster.platform.wait_phase("scaled", "Deployed")
        found = one_object(cluster, "Deployment", "scaled")
        assert found is not None
        scale = f"{path_of(found, 'deployments')}/scale"
        cluster.plane.admin.call("PATCH", scale, {"spec": {"replicas": 3}})  # as an autoscaler does
        wait_until(lambda: _ready(cluster, "scaled") == 3, within=SETTLE, what="three replicas")
        change = {"env": {"BUILD": "2"}}
        cluster.platform.api.patch("/deployments/scaled/versions/1", json=change).raise_for_status()
        cluster.platform.wait_phase("scaled", "Deployed", within=SETTLE)
        wait_until(lambda: _ready(cluster, "scaled") == 3, within=SETTLE, what="three fresh replicas")
        found = one_object(cluster, "Deployment", "scaled")
        assert found is not None
        assert found["spec"]["replicas"] == 3


def test_the_address_of_a_load_balancer_is_told(cluster: Cluster) -> None:
    """What a cloud's controller would do is done here by hand."""
    body = {"id": "balanced", "access": "public", "version": {"service": {"type": "LoadBalancer", "port": 9090}}}
    with deployed(cluster, body):
        document = cluster.platform.wait_phase("balanced", "Deployed")
        assert document["status"]["versions"][0]["addresses"] == []
        service = one_object(cluster, "Service", "balanced")
        assert service is not None
        status = {"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.7"}]}}}
        cluster.plane.admin.call("PATCH", f"{path_of(service, 'services')}/status", status)

        def told() -> bool:
            document = cluster.platform.api.get("/deployments/balanced").json()
            return bool(document["status"]["versions"][0]["addresses"] == ["192.0.2.7:9090"])

        wait_until(told, within=SETTLE, what="the address")


FATES = {
    "missing-image": ("image_pull", "not found"),
    "crash": ("crash", "exit code 1"),
    "oom": ("out_of_memory", "16 MiB"),
    "never-ready": ("progress_deadline", "0 of 1 replicas"),
    "failed-pull": ("model_download", "Fetching the model"),
}


def test_a_failure_is_told_with_its_cause_and_heals(cluster: Cluster) -> None:
    names = {fate: f"is-{fate}" for fate in FATES}
    bodies = [
        {"id": name, "version": {"env": {"FATE": fate}}, "progress_deadline": 3 if fate == "never-ready" else 600}
        for fate, name in names.items()
    ]
    with deployed(cluster, *bodies):
        for fate, name in names.items():
            cause, word = FATES[fate]
            failure = _failure(cluster, name)
            assert failure["cause"] == cause, failure
            assert word in failure["message"], failure
            assert failure["advice"]
            assert failure["replica"], failure
            if fate in ("crash", "oom"):
                assert failure["evidence"]["exit_code"] == (1 if fate == "crash" else 137)
                assert failure["evidence"]["log"]
        for name in names.values():
            change = {"env": {"FATE": None}}
            cluster.platform.api.patch(f"/deployments/{name}/versions/1", json=change).raise_for_status()
        for name in names.values():
            healed = cluster.platform.wait_phase(name, "Deployed", within=SETTLE)
            assert healed["status"]["versions"][0]["failure"] is None


def test_what_the_cluster_has_no_room_for_is_said_and_heals(cluster: Cluster) -> None:
    """One finds no node, until one comes; another one's pods are forbidden by a quota, until it goes."""
    admin, api = cluster.plane.admin, cluster.platform.api
    big = {"id": "big", "cpu": "100", "memory": "16Mi"}
    api.post("/instance-types", json=big).raise_for_status()
    quotas = f"/api/v1/namespaces/{NAMESPACE}/resourcequotas"
    with deployed(cluster, {"id": "large", "version": {"instance_type": "big"}}):
        found = wait_until(lambda: one_object(cluster, "Deployment", "large"), within=SETTLE, what="its Deployment")
        assert found
        quota = {"metadata": {"name": "narrow"}, "spec": {"hard": {"pods": "1"}}}
        admin.call("POST", quotas, quota)
        with deployed(cluster, {"id": "crowded", "version": {"replicas": 2}}):
            failure = _failure(cluster, "crowded")
            assert failure["cause"] == "quota", failure
            assert "exceeded quota: narrow" in failure["message"]
            admin.call("DELETE", f"{quotas}/narrow")
            cluster.platform.wait_phase("crowded", "Deployed", within=SETTLE)
            failure = _failure(cluster, "large")
            assert failure["cause"] == "unschedulable", failure
            assert "Insufficient cpu" in failure["message"]
            cluster.nodes.add_nodes(1, capacity={"cpu": "128", "memory": "1Gi", "pods": "10"})
            cluster.platform.wait_phase("large", "Deployed", within=SETTLE)


def _failure(cluster: Cluster, deployment: str) -> dict[str, Any]:
    """Of its only version, once it has failed."""
    document = cluster.platform.wait_phase(deployment, "Failed", within=SETTLE)
    failure = document["status"]["versions"][0]["failure"]
    assert isinstance(failure, dict)
    return failure


def _readiness(cluster: Cluster, status: str) -> dict[str, Any] | None:
    """What the deployer says of itself, if it says that."""
    try:
        answer = cluster.platform.http.get(f"http://127.0.0.1:{cluster.platform.here.ports['deployer']}/readyz")
    except httpx.TransportError:
        return None
    said: dict[str, Any] = answer.json()
    return said if answer.status_code == 200 and said["status"] == status else None


def _ready(cluster: Cluster, deployment: str) -> int:
    replicas = cluster.platform.api.get(f"/deployments/{deployment}/replicas").json()["items"]
    assert isinstance(replicas, list)
    return sum(each["phase"] == "Ready" and each["routable"] for each in replicas)
