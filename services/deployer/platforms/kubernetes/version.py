"""One version of a deployment: brings its objects to what is wanted, a step at a time.

Everything it does may be repeated, by another deployer too. What it remembers only saves calls: which shape it has
applied, and when a model's address ages. Left out: what the steps are (`steps`), what the objects are (`manifests`).
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from uuid import UUID

from services.deployer.platforms.kubernetes import names, observation, runs, verdict
from services.deployer.platforms.kubernetes.cluster import Cluster
from services.deployer.platforms.kubernetes.errors import (
    Conflict,
    Forbidden,
    Invalid,
    NamespaceNotFound,
    NotFound,
)
from services.deployer.platforms.kubernetes.kinds import (
    AUTOSCALER,
    CLAIM,
    DEPLOYMENT,
    POD,
    SECRET,
    VOLUME,
    Object,
)
from services.deployer.platforms.kubernetes.manifests import Manifest, Manifests, build, field_manager, namespace
from services.deployer.platforms.kubernetes.manifests.config import MODEL_URL
from services.deployer.platforms.kubernetes.objects import Pod, Root
from services.deployer.platforms.kubernetes.shape import Applied, Prints, Shape, is_scaled, prints, resources
from services.deployer.platforms.kubernetes.steps import Gate, Member, Steps, decide
from services.deployer.platforms.platform import Replica, Workload

LACKING = 5.0
"""Seconds after which a pod that lacks its Secret lacks it for good: somebody has deleted it."""
SCALER = f"{names.MANAGER}-scale"
"""The field manager that hands the number of replicas over to an autoscaler: a field that is left by its only manager
is reset."""

_NEEDED_TO_START = ("Secret", "ConfigMap", "PersistentVolumeClaim")


class Version:
    def __init__(self, cluster: Cluster, uid: UUID, number: int) -> None:
        self._cluster = cluster
        self._api, self._store = cluster.api, cluster.store
        self._uid = uid
        self._number = number
        self._lock = asyncio.Lock()
        self._applied: Applied | None = None
        self._url_made_at = float("-inf")
        self._superseded = False
        self._mended: set[str] = set()
        self.refused: Replica | None = None
        """What stands for it when the cluster does not take it as it is."""
        self.held = False
        """Whether a new template waits until the pods before are in service or released."""

    # What is there

    @property
    def busy(self) -> bool:
        """Whether something is being done with it."""
        return self._lock.locked()

    def root(self) -> Root | None:
        """Its Deployment; one that is being deleted only while there is no other."""
        found = [root for root in self._store.roots(self._uid) if root.version == self._number]
        return min(found, key=lambda root: root.deleting_since is not None, default=None)

    def pods(self) -> list[Pod]:
        return [pod for pod in self._store.pods(self._uid) if pod.version == self._number]

    def drifted(self) -> bool:
        """Whether what we have applied is not there as it was; False before anything was."""
        root = self.root()
        return self._applied is not None and (root is None or not self._applied.stands(root, self._store))

    # What is wanted

    async def apply(self, workload: Workload) -> None:
        """See `Platform.apply`."""
        async with self._lock:
            root, before, self.refused = self.root(), self.refused, None
            try:
                if root is None:
                    self._applied = None
                    if workload.replicas and not await self._is_in_the_way():
                        await self._create(workload)
                elif root.deleting_since is None:  # else its end comes first
                    await self._drive(workload, root)
            except (Invalid, Forbidden) as error:
                if _is_ours(error):
                    raise
                failure, digest = verdict.refused(str(error)), workload.template.digest
                since = before.started_at if before and before.failure == failure else datetime.now(UTC)
                self.refused = observation.unmade(names.root(workload), self._number, digest, failure, since)
                self._applied = None

    async def delete(self) -> None:
        """See `Platform.delete`."""
        async with self._lock:
            self._applied, self.refused = None, None
            root = self.root()
            if root is None:
                await self._sweep()
            else:
                if root.deleting_since is None:
                    found = await self._api.delete(
                        DEPLOYMENT, root.namespace, root.name, propagation="Foreground", uid=root.uid
                    )
                    if found is not None:
                        self._store.learn(found)
                for each in self._store.resources(self._uid, VOLUME):
                    if each.version == self._number and each.deleting_since is None:
                        await self._api.delete(VOLUME, None, each.name)

    async def _sweep(self) -> None:
        """Remove what has been left by a Deployment that was deleted without it."""
        namespaces = set()
        for pod in self.pods():
            namespaces.add(pod.namespace)
            if pod.deleting_since is None:
                await self._api.delete(POD, pod.namespace, pod.name)
        for kind, each in resources(self._store, self._uid, self._number):
            namespaces.add(each.namespace)
            if each.deleting_since is None:
                await self._api.delete(kind, each.namespace or None, each.name)
        for name in filter(None, namespaces):
            await self._api.delete_collection(SECRET, name, selector=names.selector(self._uid, self._number))

    # The objects

    def _build(self, workload: Workload, *, replicas: int | None) -> Manifests:
        model = workload.template.model
        url = self._cluster.artifact_url(model.digest) if model is not None and model.digest else None
        return build(workload, self._cluster.options, model_url=url, replicas=replicas)

    async def _is_in_the_way(self) -> bool:
        """Whether there are claims left of a Deployment that somebody deleted: they are about to go, and a volume of
        ours that was bound to one takes no other."""
        left = [each for each in resources(self._store, self._uid, self._number) if each[0] in (CLAIM, VOLUME)]
        for kind, each in left:
            if each.deleting_since is None:
                await self._api.delete(kind, each.namespace or None, each.name)
        return bool(left)

    async def _create(self, workload: Workload) -> None:
        """The Deployment first, as it owns the others; a pod that is quicker waits for what it lacks."""
        made = self._build(workload, replicas=workload.replicas)
        try:
            root = await self._put(made.root)
        except NamespaceNotFound:
            if not self._cluster.options.own_namespaces:
                raise
            await self._api.create(namespace(self._cluster.options, workload.group))
            root = await self._put(made.root)
        others = await self._put_all(made.dependents(root["metadata"]["uid"]))
        if is_scaled(workload):
            await self._hand_over(made, workload.replicas)
            root = await self._put(self._build(workload, replicas=None).root)
        self._applied = Applied.noted(Shape.of(workload), made.revision, root, prints(others))

    async def _drive(self, workload: Workload, root: Root) -> None:
        """What is stopped has no template to speak of: its objects stay as they are, for when it is started again."""
        scaled, pods, applied = is_scaled(workload), self.pods(), self._applied
        known = applied is not None and applied.shape == Shape.of(workload)
        revision = ""
        if workload.replicas:
            revision = applied.revision if known and applied else self._build(workload, replicas=None).revision
        now = observation.scale(root)
        members = [observation.member(pod, root) for pod in pods]
        steps = decide(
            wanted=min(max(root.replicas, workload.replicas), workload.most) if scaled else workload.replicas,
            revision=revision,
            scale=now,
            members=members,
            keep=workload.keep,
            serving=workload.serving,
            now=time.time(),
            settle=self._cluster.options.settle_seconds,
        )
        self.held = not steps.roll
        await self._take(steps, {pod.name: pod for pod in pods})
        self._look_at_drained(members, marked=bool(steps.mark))
        if not scaled:
            await self._remove_autoscaler()
        if workload.replicas and steps.roll and not (known and applied and applied.stands(root, self._store)):
            await self._reshape(workload, root, steps)
            await self._prune(root, self.pods())
            return
        if known:
            await self._keep_fed(workload, root, pods, growing=steps.replicas > root.replicas)
        if scaled and root.replicas < workload.replicas:
            await self._hand_over(self._build(workload, replicas=None), workload.replicas)
        elif not scaled and (steps.replicas, steps.surge) != (now.replicas, now.surge):
            await self._scale(root, steps)
        if known:
            await self._prune(root, pods)

    async def _reshape(self, workload: Workload, root: Root, steps: Steps) -> None:
        """Apply all that may differ; what pods need, before the pods."""
        if await self._remove_released():
            return
        scaled = is_scaled(workload)
        made = self._build(workload, replicas=None if scaled else steps.replicas)
        kept: dict[tuple[str, str], str] = {}
        differing = []
        for each in made.dependents(root.uid):
            if standing := self._content(each, root):
                kept |= standing
            else:
                differing.append(each)
        others = await self._put_all(differing)
        if scaled:
            await self._hand_over(made, max(root.replicas, workload.replicas), forced=root.replicas < workload.replicas)
        found = await self._put(made.root)
        self._superseded = True
        if found["metadata"]["uid"] != root.uid:
            # Somebody had deleted it, and what it owned goes with it. The new one is news: all is applied again then.
            self._applied = None
            return
        self._applied = Applied.noted(Shape.of(workload), made.revision, found, {**kept, **prints(others)})

    def _content(self, manifest: Manifest, root: Root) -> Prints:
        """Its print, if it need not be applied again."""
        if self._applied is None or (_has_url(manifest) and self._is_url_old()):
            return {}
        return self._applied.content(manifest, root, self._store)

    def _is_url_old(self) -> bool:
        return time.monotonic() - self._url_made_at > self._cluster.url_seconds / 2

    async def _remove_released(self) -> bool:
        """Whether volumes that can serve no claim any more are deleted now. Their end is news: then others are made."""
        found = [v for v in self._store.resources(self._uid, VOLUME) if v.version == self._number and v.released]
        for each in found:
            if each.deleting_since is None:
                await self._api.delete(VOLUME, None, each.name, uid=each.uid)
        return any(each.deleting_since is None for each in found)

    async def _put_all(self, manifests: Sequence[Manifest]) -> list[Object]:
        """Volumes first: the cluster looks for a claim's volume when the claim comes, and then not for 15 s again."""
        first = [each for each in manifests if each["kind"] == VOLUME.name]
        others = [each for each in manifests if each["kind"] != VOLUME.name]
        return [*await asyncio.gather(*map(self._put, first)), *await asyncio.gather(*map(self._put, others))]

    async def _put(self, manifest: Manifest) -> Object:
        found = await self._api.apply(manifest, manager=field_manager(manifest))
        if _has_url(manifest):
            self._url_made_at = time.monotonic()
        self._store.learn(found)
        return found

    async def _scale(self, root: Root, steps: Steps) -> None:
        surge = "25%" if steps.surge is None else steps.surge
        spec = {"replicas": steps.replicas, "strategy": {"rollingUpdate": {"maxSurge": surge}}}
        with suppress(NotFound):
            self._store.learn(await self._api.merge(DEPLOYMENT, root.namespace, root.name, {"spec": spec}))

    async def _hand_over(self, made: Manifests, replicas: int, *, forced: bool = True) -> None:
        """See to it that the number of replicas is not ours alone, before we leave it out of what we apply."""
        root = made.root
        manifest = {
            "apiVersion": root["apiVersion"],
            "kind": root["kind"],
            "metadata": {"name": root["metadata"]["name"], "namespace": root["metadata"]["namespace"]},
            "spec": {"replicas": replicas},
        }
        with suppress(Conflict):  # an autoscaler has just taken it
            self._store.learn(await self._api.apply(manifest, manager=SCALER, force=forced))

    async def _remove_autoscaler(self) -> None:
        for each in self._store.resources(self._uid, AUTOSCALER):
            if each.version == self._number and each.deleting_since is None:
                await self._api.delete(AUTOSCALER, each.namespace, each.name)

    async def _keep_fed(self, workload: Workload, root: Root, pods: Sequence[Pod], *, growing: bool) -> None:
        """Renew what fresh pods need to start: the model's address that grows old, what somebody deleted and no watch
        tells of: a Secret, a claim that is shared."""
        pulling = growing or any(runs.is_pulling(pod) for pod in pods)
        old = self._is_url_old()
        now = datetime.now(UTC)
        lacking = {
            pod.uid for pod in pods if verdict.lacks_ours(pod) and (now - pod.created_at).total_seconds() > LACKING
        } - self._mended
        if (pulling and old and workload.template.model and workload.template.model.digest) or lacking:
            made = self._build(workload, replicas=None).dependents(root.uid)
            await self._put_all([each for each in made if each["kind"] in _NEEDED_TO_START])
            self._mended = (self._mended & {pod.uid for pod in pods}) | lacking

    async def _prune(self, root: Root, pods: Sequence[Pod]) -> None:
        """Remove what belongs to an earlier shape, once no pod is of it any more."""
        applied = self._applied
        if applied is None or any(
            observation.revision_of(pod) != applied.revision and not runs.is_over(pod) for pod in pods
        ):
            self._superseded = True
            return
        if not self._superseded:
            return
        for kind, each in applied.superseded(root, self._store):
            if each.deleting_since is None:
                await self._api.delete(kind, each.namespace or None, each.name)
        earlier = names.selector(self._uid, self._number, but=applied.secrets)
        await self._api.delete_collection(SECRET, root.namespace, selector=earlier)
        self._superseded = False

    # The pods

    async def _take(self, steps: Steps, pods: dict[str, Pod]) -> None:
        if steps.mark:
            await asyncio.gather(*(self._mark(pods[name]) for name in steps.mark))
        await asyncio.gather(
            *(self._release(pods[name]) for name in steps.release),
            *(self._open(pods[name]) for name in steps.open),
            *(self._api.delete(POD, pods[name].namespace, name, uid=pods[name].uid) for name in steps.delete),
        )

    def _look_at_drained(self, members: Sequence[Member], *, marked: bool) -> None:
        """Each time anew: another deployer may have marked a pod, or the one before us."""
        settle, now = self._cluster.options.settle_seconds, time.time()
        since = [m.draining_since for m in members if m.draining_since is not None and m.gate is not Gate.RELEASED]
        left = [settle - (now - each) for each in since] + ([settle] if marked else [])
        if waits := [each for each in left if each > 0]:
            self._cluster.look_again(self._uid, min(waits))

    async def _mark(self, pod: Pod) -> None:
        annotations = {names.DRAINING: datetime.now(UTC).isoformat()}
        with suppress(NotFound):
            patch = {"metadata": {"annotations": annotations}}
            self._store.learn(await self._api.merge(POD, pod.namespace, pod.name, patch))

    async def _release(self, pod: Pod) -> None:
        """For good: its place in the ReplicaSet is the first to go."""
        await self._gate(pod, Gate.RELEASED, {names.DELETION_COST: "-1"})

    async def _open(self, pod: Pod) -> None:
        await self._gate(pod, Gate.OPEN)

    async def _gate(self, pod: Pod, gate: Gate, annotations: dict[str, str] | None = None) -> None:
        is_open = gate is Gate.OPEN
        with suppress(NotFound):
            found = await self._api.set_condition(
                pod.namespace,
                pod.name,
                names.IN_SERVICE,
                status=is_open,
                reason="Acknowledged" if is_open else observation.RELEASED,
                message="The data plane routes to it." if is_open else "The data plane has let go of it.",
                annotations=annotations,
            )
            self._store.learn(found)


def _has_url(manifest: Manifest) -> bool:
    return manifest["kind"] == SECRET.name and MODEL_URL in manifest["data"]


def _is_ours(error: Invalid | Forbidden) -> bool:
    """Whether it is not what was asked for that is refused, but us, or for now."""
    return isinstance(error, Forbidden) and (" cannot " in str(error) or "being terminated" in str(error))
