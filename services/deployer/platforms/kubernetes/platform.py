"""Replicas as pods of a Kubernetes cluster, behind the `Platform` protocol.

Every version of a deployment is a Deployment of the cluster, which owns all else that it needs. What is there is known
from one watch per kind, so looking costs nothing; only a difference costs a call. Nothing but what the cluster holds is
needed to go on after a restart, and several deployers may watch the same cluster (leases say who acts).

Left out: what the objects look like (`manifests`), what is done next with them (`version`, `steps`), what is said of
them (`observation`).
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Hashable, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self
from uuid import UUID
from weakref import WeakSet

from services.deployer.platforms.causes import LOG_LINES
from services.deployer.platforms.kubernetes import logs, names, observation, runs, verdict
from services.deployer.platforms.kubernetes.api import Api
from services.deployer.platforms.kubernetes.cluster import Cluster
from services.deployer.platforms.kubernetes.connection import Connection
from services.deployer.platforms.kubernetes.kinds import CLAIM, SERVICE, VOLUME
from services.deployer.platforms.kubernetes.objects import Pod, Root
from services.deployer.platforms.kubernetes.options import Options
from services.deployer.platforms.kubernetes.steps import Gate
from services.deployer.platforms.kubernetes.store import Store
from services.deployer.platforms.kubernetes.usage import Meter
from services.deployer.platforms.kubernetes.version import Version
from services.deployer.platforms.platform import (
    Capabilities,
    Phase,
    PlatformError,
    Replica,
    ReplicaNotFound,
    Workload,
)
from services.deployer.platforms.watcher import Watcher
from shared.telemetry import get_logger

log = get_logger(__name__)

USAGE_PERIOD = 15.0
"""Seconds between two looks at what the pods use: a metrics server does not look more often."""
FIRST_LOOK, LOOKS_PER_SECOND = 1.0, 20.0
"""After a start everything is looked at once, at its leisure: what has changed meanwhile goes before."""


class KubernetesPlatform:
    """See `Platform`. Use it as `async with KubernetesPlatform(connection, artifact_url, …) as platform`.

    `url_seconds` is how long an address of `artifact_url` is good.
    """

    def __init__(
        self,
        connection: Connection,
        artifact_url: Callable[[str], str],
        *,
        options: Options,
        url_seconds: float = 900.0,
    ) -> None:
        self._api = Api(connection)
        self._namespace = None if options.own_namespaces else options.namespace_of("")
        ours = names.owned_by(options.installation)
        self._store = Store(self._api, self._changed, selector=ours, namespace=self._namespace)
        self._options = options
        self._cluster = Cluster(
            api=self._api,
            store=self._store,
            options=options,
            artifact_url=artifact_url,
            url_seconds=url_seconds,
            look_again=self._look_again,
        )
        self._versions: dict[UUID, dict[int, Version]] = {}
        self._watchers: WeakSet[Watcher] = WeakSet()
        self._faces: dict[UUID, int] = {}
        self._evidence = logs.Evidence(self._api)
        self._meter = Meter(self._api, selector=ours, namespace=self._namespace)
        self._tasks: set[asyncio.Task[None]] = set()
        self._timers: dict[UUID, asyncio.TimerHandle] = {}

    # Life

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Begin to watch. Raises PlatformError when it is not said where the cluster is, or not rightly."""
        await self._api.__aenter__()
        self._store.start()
        self._spawn(self._look_at_all())
        self._spawn(self._measure())

    async def close(self) -> None:
        """Let go of everything; the replicas run on."""
        for timer in self._timers.values():
            timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._store.close()
        await self._api.__aexit__(None, None, None)
        for watcher in self._watchers:
            watcher.close()

    # The protocol

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(containers=True, gpu_fractions=self._options.gpu_fraction_resource is not None)

    @property
    def trouble(self) -> str | None:
        """See `Platform.trouble`."""
        return self._store.trouble

    async def known(self) -> None:
        """See `Platform.known`."""
        await self._store.known()

    async def apply(self, workload: Workload) -> None:
        """See `Platform.apply`."""
        await self._version(workload.uid, workload.version).apply(workload)

    async def observe(self, uid: UUID) -> list[Replica]:
        """See `Platform.observe`."""
        return self._observed(uid)

    async def delete(self, uid: UUID, version: int | None = None) -> None:
        """See `Platform.delete`."""
        known = {*self._versions.get(uid, ()), *self._store.versions(uid)}
        wanted = known if version is None else known & {version}
        await asyncio.gather(*(self._version(uid, number).delete() for number in wanted))
        self._tidy(uid)

    async def deployments(self) -> set[UUID]:
        """See `Platform.deployments`."""
        return self._store.deployments()

    async def versions(self, uid: UUID) -> set[int]:
        """See `Platform.versions`."""
        refused = {number for number, version in self._versions.get(uid, {}).items() if version.refused}
        return self._store.versions(uid) | refused

    async def addresses(self, uid: UUID) -> Mapping[int, tuple[str, ...]]:
        """See `Platform.addresses`."""
        return self._addresses(uid)

    async def logs(
        self,
        uid: UUID,
        replica_id: str,
        *,
        tail: int | None = None,
        follow: bool = False,
        previous: bool = False,
        since: datetime | None = None,
    ) -> AsyncIterator[str]:
        """See `Platform.logs`."""
        pod = next((pod for pod in self._store.pods(uid) if pod.name == replica_id), None)
        if pod is None:
            if self.trouble:
                raise PlatformError(self.trouble)
            raise ReplicaNotFound(uid, replica_id)
        async for line in logs.read(self._api, pod, tail=tail, follow=follow, previous=previous, since=since):
            yield line

    def watch(self) -> AsyncIterator[UUID]:
        """See `Platform.watch`."""
        watcher = Watcher()
        self._watchers.add(watcher)
        return watcher

    # Inside

    def _addresses(self, uid: UUID) -> dict[int, tuple[str, ...]]:
        return {each.version: each.addresses for each in self._store.resources(uid, SERVICE) if each.addresses}

    def _version(self, uid: UUID, number: int) -> Version:
        versions = self._versions.setdefault(uid, {})
        if number not in versions:
            versions[number] = Version(self._cluster, uid, number)
        return versions[number]

    def _observed(self, uid: UUID) -> list[Replica]:
        found = observation.replicas(
            self._store.pods(uid),
            self._store.roots(uid),
            warnings=self._store.warnings,
            log=self._evidence.of,
            usage=self._meter.usage,
            now=datetime.now(UTC),
            patience=self._options.patience_seconds,
        )
        refused = [version.refused for version in self._versions.get(uid, {}).values() if version.refused]
        # The same name may stand for pods that a Deployment of before cannot make: what was wanted last counts.
        replaced = {each.id for each in refused}
        return [*(each for each in found if each.id not in replaced), *refused]

    def _changed(self, uid: UUID) -> None:
        """Something of it became different: wake whom it concerns, unless all looks the same from there."""
        pods = self._store.pods(uid)
        for pod in pods:
            if observation.standing(pod, None) is Phase.STARTING and self._evidence.begin(pod):
                self._spawn(self._fetch(pod))
                self._look_again(uid, verdict.LINES)
        self._evidence.forget_others(uid, pods)
        replicas = self._observed(uid)
        face = hash((tuple(map(_face, replicas)), self._inner_face(uid, pods)))
        if face != self._faces.get(uid):
            self._faces[uid] = face
            self._wake(uid)
        if any(each.failure is not None and each.phase is Phase.STARTING for each in replicas):
            self._look_again(uid, self._options.patience_seconds)
        self._tidy(uid)

    def _inner_face(self, uid: UUID, pods: list[Pod]) -> Hashable:
        """What decides about the next steps beyond what is observed."""
        versions = self._versions.get(uid, {})
        held = {number for number, version in versions.items() if version.held}
        released = {pod.version for pod in pods if observation.gate_of(pod) is Gate.RELEASED}
        return (
            tuple(number for number, version in versions.items() if version.drifted()),
            tuple(
                _root_face(root, rolling=root.version in held | released or _is_mixed(root, pods))
                for root in self._store.roots(uid)
            ),
            tuple(
                (pod.uid, pod.holds("Ready"))
                for pod in pods
                if pod.version in held or observation.gate_of(pod) is Gate.RELEASED
            ),
            tuple(each.uid for kind in (CLAIM, VOLUME) for each in self._store.resources(uid, kind)),
            tuple(self._addresses(uid).items()),
        )

    def _wake(self, uid: UUID) -> None:
        for watcher in self._watchers:
            watcher.add(uid)

    def _look_again(self, uid: UUID, seconds: float) -> None:
        def due() -> None:
            self._timers.pop(uid, None)
            self._wake(uid)

        if (pending := self._timers.pop(uid, None)) is not None:
            seconds = min(seconds, max(0.0, pending.when() - asyncio.get_running_loop().time()))
            pending.cancel()
        self._timers[uid] = asyncio.get_running_loop().call_later(seconds, due)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _fetch(self, pod: Pod) -> None:
        await self._evidence.fetch(pod, count=LOG_LINES, within=verdict.LINES)
        self._changed(pod.deployment)

    async def _look_at_all(self) -> None:
        """What somebody has changed while nobody watched shows only when it is applied once more."""
        await self._store.known()
        for number, uid in enumerate(self._store.deployments()):
            self._look_again(uid, FIRST_LOOK + number / LOOKS_PER_SECOND)

    async def _measure(self) -> None:
        while True:
            try:
                await self._meter.look()
            except PlatformError as error:
                log.info("kubernetes.usage_unknown", error=str(error))
            except (ArithmeticError, LookupError, TypeError, ValueError) as error:
                # A server of metrics that says things in another way; it may be replaced.
                log.warning("kubernetes.usage_not_understood", error=repr(error))
            await asyncio.sleep(USAGE_PERIOD)

    def _tidy(self, uid: UUID) -> None:
        """Forget a deployment of which nothing is left."""
        left = any(version.busy or version.refused for version in self._versions.get(uid, {}).values())
        if not left and not self._store.versions(uid):
            self._versions.pop(uid, None)
            self._faces.pop(uid, None)


def _face(replica: Replica) -> Hashable:
    """What the deployer acts on."""
    placed = replica.phase not in (Phase.STARTING, Phase.FAILED)
    return (replica.id, replica.phase, replica.restarts, replica.failure, replica.host if placed else "")


def _root_face(root: Root, *, rolling: bool) -> Hashable:
    observed = root.observed_generation >= root.generation
    settling = (root.available, observed) if rolling or root.max_surge != "25%" else None
    return (root.uid, root.deleting_since is not None, root.replicas, root.max_surge, settling)


def _is_mixed(root: Root, pods: list[Pod]) -> bool:
    revision = observation.revision(root)
    return any(
        pod.version == root.version and observation.revision_of(pod) != revision and not runs.is_over(pod)
        for pod in pods
    )
