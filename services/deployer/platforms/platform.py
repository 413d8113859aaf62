"""The contract between the deployer and whatever runs the replicas: a small protocol and the data it speaks in.

A platform is told what one version of a deployment should look like (`Workload`) and says what is there
(`Replica`). It starts, probes, restarts, rolls and drains; it knows nothing of rows, routes, quotas or HTTP.

How the two sides work together, on this machine and on Kubernetes alike:

- `apply` is level-triggered. It does at once what can be done now and returns; the caller applies again when
  `watch` names the deployment, when the data plane has acknowledged something, and on its own resync. Nothing waits
  inside.
- A replica's way out has two steps. The platform shows it as Draining; the caller tells the data plane; once the
  data plane has let go, the replica is missing from `keep` and the next `apply` ends it. Where a platform ends
  replicas by itself (Kubernetes), Draining is a pod that is being deleted and its preStop hook waits.
- A replica's way in likewise: it counts as in service once it is Ready *and* the data plane has acknowledged that it
  routes to it, which is what `serving` says (Kubernetes: a readiness gate). A rollout takes nothing out of service
  before as much is in service. With the data plane's control plane dead, a rollout waits; no request fails.
- What goes wrong with a replica is an observation (`Replica.failure`), never an exception. Exceptions mean that the
  platform itself cannot be reached or used.

Left out: autoscaling, quota (the deployer admits before it applies), traffic (the gateway), and `exec`.
"""

import hashlib
import json
import math
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import Any, Literal, Protocol
from uuid import UUID


def surge(replicas: int) -> int:
    """How many replicas above `replicas` a rollout may have at once: a quarter, rounded up. Admission counts them."""
    return math.ceil(replicas / 4)


@dataclass(frozen=True)
class Resources:
    """What one replica may use. `cpu` in cores, `memory` in bytes; zero memory means no limit."""

    cpu: float = 1.0
    memory: int = 0
    gpu: float = 0.0
    gpu_model: str | None = None


@dataclass(frozen=True)
class Model:
    """The model a replica serves. `digest` (`sha256:<hex>`) is None when the image or command brings it along."""

    name: str
    version: int
    digest: str | None = None
    size: int | None = None


@dataclass(frozen=True)
class Probe:
    """A GET that answers 2xx or 3xx when the replica can serve. `port` names one of the replica's ports."""

    path: str = "/readyz"
    port: str = "http"
    start_seconds: float = 600.0
    """A replica that has not answered for so long since its start has failed."""


@dataclass(frozen=True)
class PullSecret:
    """What a registry of images asks for."""

    server: str
    username: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class Toleration:
    """Of a node's taint, as Kubernetes has it. `seconds` is None where it tolerates the taint for good."""

    key: str | None = None
    operator: str = "Equal"
    value: str | None = None
    effect: str | None = None
    seconds: int | None = None


@dataclass(frozen=True)
class ExistingClaim:
    """A volume claim that somebody else has made and keeps."""

    claim: str


@dataclass(frozen=True)
class LabelledClaim:
    """A claim of our own on a volume that carries these labels, for many readers and writers. `storage` in bytes."""

    storage: int
    labels: Mapping[str, str]


@dataclass(frozen=True)
class Nfs:
    """A folder of an NFS server: a volume and a claim of our own. `storage` in bytes, for the books only."""

    server: str
    path: str
    storage: int


@dataclass(frozen=True)
class Memory:
    """A folder in memory that ends with the replica; `size` in bytes counts into the replica's memory."""

    size: int | None = None


@dataclass(frozen=True)
class Volume:
    """What a replica finds mounted at `path`. `name` is a DNS label, unique within the template."""

    name: str
    path: str
    source: ExistingClaim | LabelledClaim | Nfs | Memory
    read_only: bool = False


@dataclass(frozen=True)
class Template:
    """All of a replica that takes a fresh one to change. Two templates are the same when their digests are.

    `command` and `args` may hold `$(NAME)` for any variable of the replica's environment, as Kubernetes has it
    (`$$(NAME)` stays as `$(NAME)`), so one command line serves every platform:
    `--host $(MOORAGE_HOST) --port $(MOORAGE_PORT) --model-path $(MOORAGE_MODEL_PATH)`.
    A command that is just `python` is the interpreter of the model server; no `image` is the model server's.
    """

    runtime: str
    command: tuple[str, ...]
    args: tuple[str, ...] = ()
    image: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    """More of the environment, never to be shown or stored in the clear."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Configuration files by name, found in `/config/`."""
    volumes: tuple[Volume, ...] = ()
    pull_secret: PullSecret | None = None
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()
    stage: str = "production"
    model: Model | None = None
    resources: Resources = Resources()
    probe: Probe = Probe()
    nonce: str = ""
    """Changed by a redeploy: same specification, fresh replicas."""
    grace_seconds: float = 30.0
    """How long a replica may take to finish its requests after TERM, before KILL."""

    @cached_property
    def digest(self) -> str:
        """A hash that is stable over processes, and over releases that add a field with a default.

        A secret counts like any other variable: releases before `secrets` had it in `env`.
        """
        content = _canonical(self)
        if hidden := content.pop("secrets", None):
            content["env"] = {**content.get("env", {}), **hidden}
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def _canonical(value: Any) -> Any:
    if is_dataclass(value):
        items = [(spec, getattr(value, spec.name)) for spec in fields(value)]
        return {spec.name: _canonical(item) for spec, item in items if not _is_default(spec, item)}
    if isinstance(value, Mapping):
        return {str(key): _canonical(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_canonical(item) for item in value]
    return value


def _is_default(spec: Field[Any], value: Any) -> bool:
    if spec.default_factory is not MISSING:
        return bool(spec.default_factory() == value)
    return bool(spec.default is not MISSING and spec.default == value)


@dataclass(frozen=True)
class Exposure:
    """An address of its own, past the gateway: it knows neither tokens nor weights."""

    type: Literal["ClusterIP", "LoadBalancer"] = "LoadBalancer"
    port: int = 80
    external_ips: tuple[str, ...] = ()


@dataclass(frozen=True)
class Workload:
    """What one version of a deployment should look like. `uid` is for good, `id` and `group` only name things.

    All in it but the template can change without a fresh replica.
    """

    uid: UUID
    id: str
    group: str
    version: int
    template: Template
    replicas: int
    most: int = 0
    """If above `replicas`, the platform may scale between the two by itself."""
    exposure: Exposure | None = None
    keep: frozenset[str] = frozenset()
    """Ids of the replicas that the data plane may route to: none of these may be ended."""
    serving: frozenset[str] = frozenset()
    """Those of them that it has acknowledged to route to: these, and while Ready, count as in service."""


@dataclass(frozen=True)
class Capabilities:
    """What a platform can run beyond a command on this machine; admission refuses what it cannot."""

    containers: bool = False
    """Images, their pull secrets, files in `/config/`, volumes and exposure."""
    gpu_fractions: bool = True


class Phase(StrEnum):
    """Where a replica is. Starting → Ready ⇄ Unready → Draining → Ended, and Failed from each of the first three."""

    STARTING = "Starting"
    READY = "Ready"
    UNREADY = "Unready"
    """It was Ready and runs, but does not answer its probe."""
    FAILED = "Failed"
    """Its runs fail one after the other, or it cannot run at all; `failure` says why. It is tried again, ever more
    rarely, and is Failed until it is Ready. A first failure is not that: it is Starting again, with its `failure`."""
    DRAINING = "Draining"
    """It is to go: take it out of the data plane. It still serves until it is no longer in `keep`."""
    ENDED = "Ended"
    """It is gone for good; listed only as long as its logs are kept."""


class Cause(StrEnum):
    """The one cause of a failure, from a fixed list. The last three are found by the deployer, not by a platform."""

    IMAGE_PULL = "image_pull"
    MODEL_DOWNLOAD = "model_download"
    MODEL_LOAD = "model_load"
    CRASH = "crash"
    OUT_OF_MEMORY = "out_of_memory"
    PROBE = "probe"
    UNSCHEDULABLE = "unschedulable"
    CONFIGURATION = "configuration"
    """The platform refuses to make the replica as it is described: a claim that is not there, a root-only image."""
    QUOTA = "quota"
    MISSING_INSTANCE_TYPE = "missing_instance_type"
    GROUP_DISABLED = "group_disabled"
    PROGRESS_DEADLINE = "progress_deadline"


@dataclass(frozen=True)
class Evidence:
    """What shows that a failure's cause is the cause. A replica killed by a signal has 128 + its number as code."""

    exit_code: int | None = None
    log: tuple[str, ...] = ()


@dataclass(frozen=True)
class Failure:
    """Why a replica's last run ended or does not serve: one cause, its evidence, and what to do about it."""

    cause: Cause
    message: str
    advice: str
    evidence: Evidence = Evidence()


@dataclass(frozen=True)
class Usage:
    """What a replica has used: CPU time since its run began, in core seconds, and memory now, in bytes."""

    cpu_seconds: float
    memory: int


@dataclass(frozen=True)
class Replica:
    """One replica as it is now. `id` is unique within the deployment for good; a restart keeps it.

    `failure` tells of the last run and stays until the replica is Ready again.
    """

    id: str
    version: int
    template_digest: str
    phase: Phase
    host: str
    port: int
    restarts: int
    started_at: datetime
    ready_since: datetime | None = None
    failure: Failure | None = None
    usage: Usage | None = None


class PlatformError(Exception):
    """The platform cannot do its work; what failed is not the fault of one replica."""


class ReplicaNotFound(PlatformError):
    """There is no such replica, or nothing is kept of it."""

    def __init__(self, uid: UUID, replica_id: str) -> None:
        super().__init__(f"no replica {replica_id} of deployment {uid}")
        self.uid = uid
        self.replica_id = replica_id


class Platform(Protocol):
    """Runs replicas. Every call may be repeated; what is absent already counts as removed."""

    @property
    def capabilities(self) -> Capabilities: ...

    @property
    def trouble(self) -> str | None:
        """Why what is observed may be old: what the replicas run on is away. None when all is well."""

    async def known(self) -> None:
        """Return once it is known what is there, however long what it runs on is away. Not to be asked to do or tell
        anything before, but for `logs`."""

    async def apply(self, workload: Workload) -> None:
        """Take the next steps towards `workload`, without waiting for their outcome. Nothing to do is a no-op."""

    async def observe(self, uid: UUID) -> list[Replica]:
        """All replicas of the deployment, of all versions, oldest first; empty when it is unknown."""

    async def delete(self, uid: UUID, version: int | None = None) -> None:
        """Begin to end all replicas (of one version) now, routed or not, with their grace, and to remove all traces.

        It is done when `observe` no longer lists them (and `deployments` the deployment); `watch` tells.
        """

    async def deployments(self) -> set[UUID]:
        """All deployments of which anything is left here, so that the caller finds those nobody wants."""

    async def versions(self, uid: UUID) -> set[int]:
        """Likewise of one deployment: a version may have no replica and yet have left something."""

    async def addresses(self, uid: UUID) -> Mapping[int, tuple[str, ...]]:
        """Where its versions that have an `Exposure` are reached, each as `host:port`; as far as that is known yet."""

    def logs(
        self,
        uid: UUID,
        replica_id: str,
        *,
        tail: int | None = None,
        follow: bool = False,
        previous: bool = False,
        since: datetime | None = None,
    ) -> AsyncIterator[str]:
        """Lines of one replica's run, or its `previous` run, each as `<RFC 3339 UTC time> <text>`, oldest first.

        `tail` keeps the last so many, `since` those not older; with neither it is all that is kept. `follow` goes
        on until the run has ended. Raises `ReplicaNotFound` at the first step, and `PlatformError`.
        """

    def watch(self) -> AsyncIterator[UUID]:
        """Deployments whose observation has changed, from this call on; several changes may come as one."""
