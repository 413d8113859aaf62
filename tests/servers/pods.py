"""Pods on a real node, as strict as ours are: not root, nothing writable but /tmp, and no capabilities."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from tests.servers.kubernetes import ControlPlane
from tests.support.waiting import until


class Pods:
    """Of one namespace, which the control plane holds to the restricted standard."""

    def __init__(self, plane: ControlPlane, namespace: str) -> None:
        self._plane, self.namespace = plane, namespace
        level = {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}
        plane.admin.call("POST", "/api/v1/namespaces", {"metadata": {"name": namespace, **level}})

    def start(self, name: str, *containers: Mapping[str, Any], **spec: Any) -> None:
        body = {"metadata": {"name": name}, "spec": pod_spec(*containers, **spec)}
        self._plane.admin.call("POST", self.path("pods"), body)

    async def address(self, name: str) -> str:
        """Once its containers are ready."""

        def ready() -> bool:
            status = self.get(name)["status"]
            if status["phase"] == "Failed" or any(each["restartCount"] for each in status.get("containerStatuses", ())):
                pytest.fail(f"{name}: {status} {self.log(name)}")
            return any(each["type"] == "Ready" and each["status"] == "True" for each in status.get("conditions", ()))

        await until(ready, within=60)
        return str(self.get(name)["status"]["podIP"])

    async def ended(self, name: str) -> dict[str, Any]:
        """How its first container ended the last time."""
        await until(lambda: self._terminated(name) is not None, within=30)
        found = self._terminated(name)
        assert found is not None
        return found

    def _terminated(self, name: str) -> dict[str, Any] | None:
        for status in self.get(name)["status"].get("containerStatuses", ())[:1]:
            found: dict[str, Any] | None = status["state"].get("terminated") or status["lastState"].get("terminated")
            return found
        return None

    def get(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self._plane.admin.call("GET", self.path("pods", name))
        return found

    def log(self, name: str, **parameters: str) -> str:
        found: str = self._plane.admin.call("GET", f"{self.path('pods', name)}/log", **parameters)
        return found

    def path(self, kind: str, name: str = "") -> str:
        return f"/api/v1/namespaces/{self.namespace}/{kind}" + (f"/{name}" if name else "")

    def remove(self) -> None:
        """All of them at once, and the namespace after them."""
        now = {"gracePeriodSeconds": 0}
        self._plane.admin.call("DELETE", self.path("pods"), now)
        self._plane.admin.call("DELETE", f"/api/v1/namespaces/{self.namespace}")


def container(
    image: str,
    *arguments: str,
    name: str = "main",
    env: Mapping[str, str] | None = None,
    port: int = 8080,
    ready: str = "/readyz",
    memory: str = "",
    mounts: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """`ready` is the path of its readiness probe; without one it is ready as soon as it runs."""
    probe = {"httpGet": {"path": ready, "port": port}, "periodSeconds": 1}
    return {
        "name": name,
        "image": image,
        "args": list(arguments),
        "env": [{"name": key, "value": value} for key, value in (env or {}).items()],
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, *mounts],
        "resources": {"limits": {"memory": memory}} if memory else {},
        "securityContext": {
            "runAsNonRoot": True,
            "readOnlyRootFilesystem": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        **({"readinessProbe": probe} if ready else {}),
    }


def pod_spec(*containers: Mapping[str, Any], volumes: Sequence[Mapping[str, Any]] = (), **spec: Any) -> dict[str, Any]:
    return {
        "containers": list(containers),
        "volumes": [{"name": "tmp", "emptyDir": {}}, *volumes],
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        **spec,
    }
