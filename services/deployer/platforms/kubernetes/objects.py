"""What is kept in memory of the cluster's objects: what the platform reads, as small typed values. See `trimming`.

Two values are equal when nothing has changed that the platform cares about: neither versions of objects nor the times
of repeated events are compared.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """An object of ours. `uid` is its own; `deployment` is that of Moorage's deployment, and `version` its version.

    `labels` and `annotations` are those that begin with `moorage.io/`.
    """

    uid: str
    name: str
    namespace: str
    deployment: UUID
    version: int
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    created_at: datetime
    deleting_since: datetime | None
    resource_version: int = field(compare=False)

    @property
    def belongs_to(self) -> UUID:
        return self.deployment


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource(Item):
    """One that is as we have made it, as long as its fingerprint is. `addresses` are a Service's, as `host:port`;
    `released` is a volume whose claim is gone: it takes no other, not even one of the same name."""

    fingerprint: str
    addresses: tuple[str, ...] = ()
    released: bool = False


@dataclass(frozen=True, slots=True)
class Condition:
    """`status` is True, False or Unknown, in words; `since` when it became that."""

    type: str
    status: str
    reason: str
    message: str
    since: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Root(Resource):
    """A Deployment. `replicas` and `max_surge` may move without its being drift, so its fingerprint is without them.

    `template_annotations` are ours on its pods. `conditions` are only those that tell of trouble: ReplicaFailure, and
    Progressing while it is False.
    """

    replicas: int
    available: int
    max_surge: int | str
    template_annotations: Mapping[str, str]
    generation: int
    observed_generation: int
    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Waiting:
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Running:
    started_at: datetime | None


@dataclass(frozen=True, slots=True)
class Terminated:
    exit_code: int
    reason: str
    message: str
    started_at: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class Container:
    """`state` is None before the kubelet has said anything; `last` is the run before, if there was one.

    `memory_limit` is a quantity as Kubernetes writes it; `start_seconds` what the startup probe allows.
    """

    name: str
    image: str
    memory_limit: str
    start_seconds: int
    ready: bool
    started: bool
    restarts: int
    state: Waiting | Running | Terminated | None
    last: Terminated | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod(Item):
    """`phase`, `reason` and `message` are of its status: an evicted pod has failed for a reason of the pod's own."""

    phase: str
    reason: str
    message: str
    ip: str
    conditions: tuple[Condition, ...]
    init_containers: tuple[Container, ...]
    containers: tuple[Container, ...]

    def condition(self, name: str) -> Condition | None:
        return next((each for each in self.conditions if each.type == name), None)

    def holds(self, name: str) -> bool:
        """Whether the condition is there and True."""
        condition = self.condition(name)
        return condition is not None and condition.status == "True"

    def container(self, name: str) -> Container | None:
        """The (init) container's status, once there is one."""
        return next((each for each in (*self.init_containers, *self.containers) if each.name == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class PodWarning:
    """An event of type Warning about a pod."""

    uid: str
    pod: str
    reason: str
    message: str
    count: int = field(compare=False)
    resource_version: int = field(compare=False)

    @property
    def belongs_to(self) -> str:
        return self.pod
