"""Fake nodes beside a control plane, as many as one likes, by kwok. What their pods do is in `kwok_stages.py`.

    python -m tests.servers run kwok -- kubectl get nodes

It manages the nodes with the label `type=kwok` only, so that a real one may stand beside them. Nobody answers at
their pods' addresses, and their pods all have the same log.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from tests.servers.go import KWOK
from tests.servers.kubernetes import ControlPlane
from tests.servers.kwok_stages import stages
from tests.servers.processes import ServerProcess
from tests.support.ports import free_port

LABEL, VALUE = "type", "kwok"
LOG = ("loading the model", "ready")
_CAPACITY = {"cpu": "64", "memory": "256Gi", "pods": "500"}


class Kwok:
    """It may be killed and started again; its nodes count as dead only after 40 s without it."""

    def __init__(self, folder: Path, plane: ControlPlane) -> None:
        self._plane = plane
        self._nodes = 0
        port = free_port()
        logs = folder / "pods.log"
        logs.write_text("".join(f"{datetime.now(UTC).isoformat()} stdout F {line}\n" for line in LOG))
        of_pods = {"logs": [{"logsFile": str(logs), "previousLogsFile": str(logs)}]}
        cluster_logs = {"kind": "ClusterLogs", "apiVersion": "kwok.x-k8s.io/v1alpha1", "metadata": {"name": "all"}}
        documents = [json.dumps(each) for each in (*stages(), {**cluster_logs, "spec": of_pods})]
        documents += [file.read_text() for file in sorted(KWOK.built().glob("*.yaml"))]
        config = folder / "kwok.yaml"
        config.write_text("\n---\n".join(documents))
        argv: list[str | Path] = [
            KWOK.program("kwok"),
            f"--kubeconfig={plane.kubeconfig}",
            f"--config={config}",
            f"--manage-nodes-with-label-selector={LABEL}={VALUE}",
            "--node-lease-duration-seconds=40",
            # Never loopback for pods: an EndpointSlice refuses it, and its controller tries again for ever.
            "--cidr=10.245.0.0/16",
            "--node-ip=127.0.0.1",
            f"--node-port={port}",
            f"--server-address=127.0.0.1:{port}",
        ]
        self.process = ServerProcess(argv, log=folder / "kwok.log")

    def start(self) -> None:
        self.process.start()

    def stop(self) -> None:
        self.process.kill()

    def add_nodes(
        self,
        count: int,
        *,
        capacity: Mapping[str, str] = _CAPACITY,
        labels: Mapping[str, str] | None = None,
        taints: Sequence[Mapping[str, str]] = (),
    ) -> list[str]:
        """Their names. They are there, and Ready within a second."""
        names = [f"kwok-{self._nodes + i}" for i in range(count)]
        self._nodes += count
        for name in names:
            node = {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": name, "labels": {LABEL: VALUE, "kubernetes.io/hostname": name, **(labels or {})}},
                "spec": {"taints": list(taints)},
                "status": {"capacity": dict(capacity), "allocatable": dict(capacity)},
            }
            self._plane.admin.call("POST", "/api/v1/nodes", node)
        return names


@contextlib.contextmanager
def running(plane: ControlPlane, *, nodes: int = 1) -> Iterator[Kwok]:
    """Beside this control plane, in its folder."""
    made = Kwok(plane.folder, plane)
    try:
        made.start()
        made.add_nodes(nodes)
        yield made
    finally:
        made.stop()
