"""The Deployment and ReplicaSet controllers in memory: what they do of Kubernetes 1.36 that decides which pod goes.

Every controller acts on what it saw last: a ReplicaSet's status is as old as its last `sync_set`. Left out: probes of
time (minReadySeconds, progressDeadlineSeconds), pausing, and creation that fails.
"""

import math
from dataclasses import dataclass, field


@dataclass
class SimPod:
    name: str
    revision: str
    born: int
    cost: int = 0
    gate: bool = False
    well: bool = False
    """Its containers are ready."""
    pending: bool = True
    available: bool = False
    """The condition Ready, as its kubelet wrote it last."""
    deleting: bool = False


@dataclass
class SimSet:
    revision: str
    born: int
    replicas: int = 0
    desired: int = 0
    most: int = 0
    available: int = 0


@dataclass
class Cluster:
    """One Deployment. `replicas`, `surge` and `revision` are its spec; `deleted` is told who is deleted."""

    revision: str
    replicas: int
    surge: int | None = None
    observed: bool = False
    available: int = 0
    sets: dict[str, SimSet] = field(default_factory=dict)
    pods: dict[str, SimPod] = field(default_factory=dict)
    deleted: list[str] = field(default_factory=list)
    _clock: int = 0

    def spec(self, *, revision: str | None = None, replicas: int, surge: int | None) -> None:
        before = self.revision, self.replicas, self.surge
        self.revision, self.replicas, self.surge = revision or self.revision, replicas, surge
        if before != (self.revision, self.replicas, self.surge):
            self.observed = False

    @property
    def max_surge(self) -> int:
        return math.ceil(self.replicas / 4) if self.surge is None else self.surge

    # The Deployment controller

    def sync_deployment(self) -> None:
        if self.revision not in self.sets:
            self._clock += 1
            self.sets[self.revision] = SimSet(self.revision, self._clock)
            room = self.replicas + self.max_surge - self._total()
            self._resize(self.sets[self.revision], max(0, min(self.replicas, room)))
        if any(s.replicas and s.desired != self.replicas for s in self.sets.values()):
            self._scale()
        elif not self._grow():
            self._shrink()
        self.available = sum(s.available for s in self.sets.values())
        self.observed = True

    def _total(self) -> int:
        return sum(s.replicas for s in self.sets.values())

    def old(self) -> list[SimSet]:
        return sorted((s for s in self.sets.values() if s.revision != self.revision), key=lambda s: s.born)

    def _resize(self, target: SimSet, replicas: int) -> None:
        target.replicas, target.desired, target.most = replicas, self.replicas, self.replicas + self.max_surge

    def _scale(self) -> None:
        new = self.sets[self.revision]
        active = [s for s in self.sets.values() if s.replicas]
        if len(active) <= 1:
            self._resize(active[0] if active else new, self.replicas)
            return
        if new.replicas == new.desired == new.available == self.replicas:
            for old in self.old():
                self._resize(old, 0)
            return
        add = (self.replicas + self.max_surge if self.replicas else 0) - self._total()
        larger = sorted(active, key=lambda s: (-s.replicas, -s.born if add > 0 else s.born))
        sizes, added = {}, 0
        for each in larger:
            share = (
                round(each.replicas * (self.replicas + self.max_surge) / (each.most or self.replicas)) - each.replicas
            )
            part = min(share, add - added) if add > 0 else max(share, add - added)
            part = 0 if add == 0 else part
            sizes[each.revision] = each.replicas + part
            added += part
        sizes[larger[0].revision] = max(0, sizes[larger[0].revision] + add - added)
        for each in larger:
            self._resize(each, sizes[each.revision])

    def _grow(self) -> bool:
        new = self.sets[self.revision]
        if new.replicas > self.replicas:
            self._resize(new, self.replicas)
            return True
        room = self.replicas + self.max_surge - self._total()
        more = min(room, self.replicas - new.replicas)
        if more > 0:
            self._resize(new, new.replicas + more)
            return True
        return False

    def _shrink(self) -> None:
        new, old = self.sets[self.revision], self.old()
        most = self._total() - self.replicas - (new.replicas - new.available)
        if most <= 0:
            return
        cleaned = 0
        for each in old:
            unhealthy = each.replicas - each.available
            if each.replicas and unhealthy > 0 and cleaned < most:
                part = min(most - cleaned, unhealthy)
                self._resize(each, each.replicas - part)
                cleaned += part
        surplus = sum(s.available for s in self.sets.values()) - self.replicas
        for each in old:
            if surplus > 0 and each.replicas:
                part = min(each.replicas, surplus)
                self._resize(each, each.replicas - part)
                surplus -= part

    # The ReplicaSet controller

    def sync_set(self, target: SimSet) -> None:
        mine = [p for p in self.pods.values() if p.revision == target.revision and not p.deleting]
        for _ in range(target.replicas - len(mine)):
            self._clock += 1
            pod = SimPod(f"p{self._clock}", target.revision, self._clock)
            self.pods[pod.name] = pod
        worst = sorted(mine, key=lambda p: (not p.pending, p.available, p.cost, -p.born))
        for pod in worst[: max(0, len(mine) - target.replicas)]:
            self.delete(pod.name)
        target.available = sum(p.available for p in mine if not p.deleting)

    def delete(self, name: str) -> None:
        if not self.pods[name].deleting:
            self.pods[name].deleting = True
            self.deleted.append(name)

    # The kubelet

    def sync_pod(self, pod: SimPod) -> None:
        pod.available = pod.well and pod.gate
