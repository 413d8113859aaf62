"""That the fake nodes do what the tests on them believe."""

from typing import Any

import pytest

from tests.servers.kubernetes import ControlPlane
from tests.servers.kwok import LOG, Kwok
from tests.servers.kwok_stages import ANNOTATION
from tests.support.waiting import until

pytestmark = [pytest.mark.kubernetes, pytest.mark.xdist_group("kubernetes")]

GATE = "moorage.io/in-service"


class Pods:
    """Of one Deployment in a namespace."""

    def __init__(self, plane: ControlPlane, namespace: str) -> None:
        self._plane, self._namespace = plane, namespace

    def deploy(self, *, fate: str = "ready", replicas: int = 1, gate: bool = False) -> None:
        labels = {"app": "fake"}
        container = {"name": "replica", "image": "example/server:1", "env": [{"name": "FATE", "value": fate}]}
        spec: dict[str, Any] = {
            "initContainers": [{"name": "pull", "image": "example/pull:1"}],
            "containers": [container],
            "readinessGates": [{"conditionType": GATE}] if gate else [],
        }
        body = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "fake"},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": spec},
            },
        }
        self._plane.admin.apply(f"/apis/apps/v1/namespaces/{self._namespace}/deployments/fake", body)

    def ready(self) -> int:
        found = self._plane.admin.call("GET", f"/apis/apps/v1/namespaces/{self._namespace}/deployments/fake")
        return int(found["status"].get("readyReplicas", 0))

    def all(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._plane.admin.call("GET", self._path())["items"]
        return found

    def one(self) -> dict[str, Any]:
        """None of it, while it has still to be made."""
        return next(iter(self.all()), {})

    def turn(self, fate: str) -> None:
        self._patch("", {"metadata": {"annotations": {ANNOTATION: fate}}})

    def set_condition(self, kind: str, status: str) -> None:
        others = [each for each in self._of("conditions") if each["type"] != kind]
        self._patch("/status", {"status": {"conditions": [*others, {"type": kind, "status": status}]}})

    def condition(self, kind: str) -> str:
        return next((each["status"] for each in self._of("conditions") if each["type"] == kind), "Unknown")

    def waits_for(self, kind: str = "containerStatuses") -> str:
        return str(self._status(kind).get("state", {}).get("waiting", {}).get("reason", ""))

    def last_exit(self, kind: str = "containerStatuses") -> dict[str, Any]:
        found: dict[str, Any] = self._status(kind).get("lastState", {}).get("terminated", {})
        return found

    def restarts(self) -> int:
        return int(self._status("containerStatuses").get("restartCount", 0))

    def _status(self, kind: str) -> dict[str, Any]:
        return next(iter(self._of(kind)), {})

    def _of(self, kind: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.one().get("status", {}).get(kind, [])
        return found

    def _patch(self, subresource: str, body: object) -> None:
        self._plane.admin.call("PATCH", f"{self._path()}/{self.one()['metadata']['name']}{subresource}", body)

    def _path(self) -> str:
        return f"/api/v1/namespaces/{self._namespace}/pods"


@pytest.fixture
def pods(control_plane: ControlPlane, fake_nodes: Kwok, namespace: str) -> Pods:
    return Pods(control_plane, namespace)


async def test_a_deployment_gets_ready_and_shrinks(pods: Pods) -> None:
    pods.deploy(replicas=20)
    await until(lambda: pods.ready() == 20)
    pods.deploy(replicas=0)
    await until(lambda: pods.all() == [])


async def test_a_pod_is_ready_while_its_gate_is_open(pods: Pods) -> None:
    pods.deploy(gate=True)
    await until(lambda: pods.condition("ContainersReady") == "True")
    assert pods.condition("Ready") == "False"
    pods.set_condition(GATE, "True")
    await until(lambda: pods.condition("Ready") == "True")
    pods.set_condition(GATE, "False")
    await until(lambda: pods.condition("Ready") == "False")


async def test_a_ready_pod_crashes_and_recovers(pods: Pods) -> None:
    pods.deploy()
    await until(lambda: pods.ready() == 1)
    pods.turn("crash")
    await until(lambda: pods.waits_for() == "CrashLoopBackOff" and pods.ready() == 0)
    assert pods.last_exit()["exitCode"] == 1
    await until(lambda: pods.restarts() > 0)
    pods.turn("ready")
    await until(lambda: pods.ready() == 1)


@pytest.mark.parametrize(
    ("fate", "kind", "code", "reason"),
    [
        ("oom", "containerStatuses", 137, "OOMKilled"),
        ("failed-pull", "initContainerStatuses", 1, "Error"),
    ],
)
async def test_containers_end(pods: Pods, fate: str, kind: str, code: int, reason: str) -> None:
    pods.deploy(fate=fate)
    await until(lambda: pods.waits_for(kind) == "CrashLoopBackOff")
    assert (pods.last_exit(kind)["exitCode"], pods.last_exit(kind)["reason"]) == (code, reason)


async def test_an_image_is_missing(pods: Pods, control_plane: ControlPlane, namespace: str) -> None:
    pods.deploy(fate="missing-image")
    await until(lambda: pods.waits_for() == "ImagePullBackOff")
    events = control_plane.admin.call("GET", f"/api/v1/namespaces/{namespace}/events")["items"]
    assert "Failed" in {each["reason"] for each in events}


@pytest.mark.parametrize(("fate", "kind"), [("slow-pull", "Initialized"), ("slow-start", "ContainersReady")])
async def test_some_take_their_time(pods: Pods, fate: str, kind: str) -> None:
    pods.deploy(fate=fate)
    await until(lambda: pods.condition(kind) == "False")
    await until(lambda: pods.ready() == 1)


async def test_pods_have_logs(pods: Pods, control_plane: ControlPlane, namespace: str) -> None:
    pods.deploy()
    await until(lambda: pods.ready() == 1)
    name = pods.one()["metadata"]["name"]
    assert control_plane.admin.kubectl("--namespace", namespace, "logs", name, "-c", "replica").splitlines() == list(
        LOG
    )
