"""Workloads of every kind, each by the name of its golden file."""

from dataclasses import replace
from ipaddress import ip_network
from uuid import UUID

from services.deployer.platforms import (
    ExistingClaim,
    Exposure,
    LabelledClaim,
    Memory,
    Model,
    Nfs,
    Probe,
    PullSecret,
    Resources,
    Template,
    Toleration,
    Volume,
    Workload,
)
from services.deployer.platforms.kubernetes import Options
from services.deployer.runtimes.catalogue import RUNTIMES

GIB = 1 << 30
ROOT_UID = "00000000-0000-4000-8000-000000000001"
"""What the API server would give the Deployment."""
MODEL_URL = "http://registry.moorage:8081/blobs/sha256/1234?expires=1800000000&signature=abc"

OPTIONS = Options(
    model_server_image="moorage/modelserver:1.0", area="eu-west-1", external_ips=(ip_network("203.0.113.0/24"),)
)

_RUNTIME = RUNTIMES["inference"]
REGISTRY_MODEL = Workload(
    uid=UUID("7d1c3f2a-5b64-4e0e-9a51-0c5f6f3b2e11"),
    id="churn",
    group="risk",
    version=1,
    template=Template(
        runtime="inference",
        command=_RUNTIME.command,
        args=_RUNTIME.args,
        env={"THRESHOLD": "0.5", "EMPTY": "", "PRICE": "$(cost) in $$"},
        model=Model("churn", 3, "sha256:" + "12" * 32, size=1000),
        resources=Resources(cpu=0.5, memory=2 * GIB),
        probe=Probe(path=_RUNTIME.health_path, start_seconds=_RUNTIME.start_seconds),
        grace_seconds=_RUNTIME.grace_seconds,
    ),
    replicas=2,
)


def _with(**changes: object) -> Workload:
    return replace(REGISTRY_MODEL, template=replace(REGISTRY_MODEL.template, **changes))


_IMAGE = {
    "runtime": "custom",
    "image": "registry.example.com/risk/scorer:7",
    "command": (),
    "args": ("--port", "$(MOORAGE_PORT)"),
    "env": {},
    "model": None,
}

CASES: dict[str, Workload] = {
    "registry-model": REGISTRY_MODEL,
    "secrets-and-files": _with(
        secrets={"API_KEY": "hunter2", "DSN": "postgresql://u:p@db/x"},
        files={"rules.yaml": "rules: []\n---\nmore: 1\n", "labels.txt": "yes\nno\n"},
    ),
    "volumes": _with(
        volumes=(
            Volume("serving", "/serving", Nfs("nas.example.com", "/serving/model", 5 * GIB)),
            Volume("mnist", "/serving/mnist", LabelledClaim(5 * GIB, {"model": "mnist"}), read_only=True),
            Volume("lookup", "/lookup", ExistingClaim("risk-lookup"), read_only=True),
            Volume("scratch", "/dev/shm", Memory(GIB)),
        )
    ),
    "gpu": _with(
        resources=Resources(cpu=4.0, memory=16 * GIB, gpu=2.0, gpu_model="T4"),
        node_selector={"pool": "serving"},
        tolerations=(
            Toleration(key="nvidia.com/gpu", operator="Exists", effect="NoSchedule"),
            Toleration(key="spot", value="true", effect="NoExecute", seconds=30),
        ),
    ),
    "exposure": replace(REGISTRY_MODEL, exposure=Exposure(port=9090, external_ips=("203.0.113.7", "198.51.100.1"))),
    "autoscaling": replace(REGISTRY_MODEL, most=5),
    "stopped": replace(REGISTRY_MODEL, template=Template(runtime="inference", command=()), replicas=0),
    "custom-image": _with(
        **_IMAGE,
        pull_secret=PullSecret("registry.example.com", "robot", "s3cret"),
        probe=Probe(path="/v1/models/scorer", start_seconds=90.5),
        resources=Resources(cpu=1.5),
    ),
}
