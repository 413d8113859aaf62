"""A real Kubernetes node on this machine: kubelet, containerd, runc and CNI, in namespaces of their own. Needs root.

    with kubernetes.running(node.HOST_ADDRESS) as plane, node.running(plane) as found:
        found.load(images.REPLICA)  # a pod may name images.REPLICA.reference from now on

The host reaches pods by their addresses, and pods reach the host by `host_address`. Left out: DNS, services' cluster
addresses, pulling images.
"""

import asyncio
import contextlib
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.servers import packages
from tests.servers.containerd import SOCKET, Containerd
from tests.servers.go import KUBELET
from tests.servers.images import Image
from tests.servers.kubernetes import ControlPlane
from tests.servers.namespaces import Machine
from tests.servers.processes import ServerProcess

HOST_ADDRESS = "10.200.0.1"
"""Of the first node's host. A control plane with this address can be reached from every node."""

_START_SECONDS = 60.0
_RBAC = "rbac.authorization.k8s.io"


class Node:
    """A node of a test run's own, with the label `type=real`."""

    def __init__(self, plane: ControlPlane, folder: Path) -> None:
        packages.require({**packages.IMAGES, **packages.NODE})
        self._program = KUBELET.program("kubelet")
        self.plane, self._folder = plane, folder
        self._machine = Machine()
        self._containerd = Containerd(self._machine, folder)
        self.name = f"node-{self._machine.number}"
        self.address, self.host_address = self._machine.address, self._machine.host_address
        self.kubelet: ServerProcess | None = None

    async def start(self) -> None:
        """Return when pods can be scheduled to it."""
        self._machine.start()
        await self._containerd.start()
        self.kubelet = self._make_kubelet()
        self.kubelet.start()
        deadline = time.monotonic() + _START_SECONDS
        while not self._ready():
            self.kubelet.check()
            if time.monotonic() > deadline:
                raise TimeoutError(self.kubelet.tail())
            await asyncio.sleep(0.02)

    def load(self, image: Image) -> None:
        """Built if need be; then a pod finds it by its reference."""
        self._containerd.load(image)

    def stop(self) -> None:
        """SIGKILL to everything, pods included."""
        if self.kubelet is not None:
            self.kubelet.kill()
        self._containerd.stop()
        self._machine.stop()

    def _make_kubelet(self) -> ServerProcess:
        configuration = self._folder / "kubelet.json"
        configuration.write_text(json.dumps(_kubelet(self._machine)))
        argv = self._machine.inside(
            self._program,
            f"--config={configuration}",
            f"--kubeconfig={self._kubeconfig()}",
            f"--hostname-override={self.name}",
            f"--node-ip={self.address}",
            "--node-labels=type=real",
        )
        return ServerProcess(argv, log=self._folder / "kubelet.log")

    def _kubeconfig(self) -> Path:
        """Of a service account that may do what nodes may."""
        admin = self.plane.admin
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "node"}}
        admin.apply("/api/v1/namespaces/kube-system/serviceaccounts/node", account)
        binding = {
            "apiVersion": f"{_RBAC}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "node"},
            "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": "system:node"},
            "subjects": [{"kind": "ServiceAccount", "name": "node", "namespace": "kube-system"}],
        }
        admin.apply(f"/apis/{_RBAC}/v1/clusterrolebindings/node", binding)
        file = admin.kubeconfig_for("kube-system/node", server=self.plane.url(self.host_address))
        document = json.loads(file.read_text())
        document["clusters"][0]["cluster"]["tls-server-name"] = HOST_ADDRESS  # as its certificate says
        file.write_text(json.dumps(document))
        return file

    def _ready(self) -> bool:
        node = self.plane.admin.call("GET", f"/api/v1/nodes/{self.name}")
        if node is None or node["spec"].get("taints"):
            return False
        conditions = {each["type"]: each["status"] for each in node["status"].get("conditions", ())}
        return conditions.get("Ready") == "True"


def _kubelet(machine: Machine) -> dict[str, Any]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": machine.address,
        # Only this machine reaches it.
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": machine.cgroup,
        "enforceNodeAllocatable": [],
        "failCgroupV1": False,
        "failSwapOn": False,
        "localStorageCapacityIsolation": False,
        "resolvConf": "",
        # Nobody answers there, which is known at once; with no server at all each pod would get a warning.
        "clusterDNS": [machine.host_address],
        "clusterDomain": "cluster.local",
        "volumePluginDir": "/run/kubelet-plugins",
        # A full disk or little memory on a developer's machine are no reason to refuse pods, or to drop images.
        "evictionHard": dict.fromkeys(("memory.available", "nodefs.available", "nodefs.inodesFree"), "0%"),
        "imageGCHighThresholdPercent": 100,
        # A container that crashes is started again at once, not after ten seconds, then twenty …
        "featureGates": {"KubeletCrashLoopBackOffMax": True},
        "crashLoopBackOff": {"maxContainerRestartPeriod": "1s"},
        # By default five changes of a pod's status a second.
        "kubeAPIQPS": 500,
        "kubeAPIBurst": 500,
        "eventRecordQPS": 0,
        "serializeImagePulls": False,
    }


@contextlib.contextmanager
def running(plane: ControlPlane) -> Iterator[Node]:
    """A node in a folder of its own; both are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="moorage-node-") as folder:
        node = Node(plane, Path(folder))
        try:
            asyncio.run(node.start())
            yield node
        finally:
            node.stop()
