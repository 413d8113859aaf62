"""What the cluster's objects say of a version: its pods as replicas, and as what decides about the next steps. Pure.

A pod that may be taken away at any moment is Draining, whoever does it: one that is being deleted, is marked by us, has
been released, or is of an older template without having got into service (`steps`).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime

from services.deployer.platforms.kubernetes import names, runs, verdict
from services.deployer.platforms.kubernetes.objects import Pod, PodWarning, Root
from services.deployer.platforms.kubernetes.options import PORT
from services.deployer.platforms.kubernetes.steps import Gate, Member, Scale
from services.deployer.platforms.platform import Failure, Phase, Replica, Usage

RELEASED = "Released"
"""The reason of a gate that is closed for good."""


def replicas(
    pods: Iterable[Pod],
    roots: Iterable[Root],
    *,
    warnings: Callable[[Pod], Sequence[PodWarning]],
    log: Callable[[Pod], Sequence[str] | None],
    usage: Mapping[str, Usage],
    now: datetime,
    patience: float,
) -> list[Replica]:
    """All of a deployment, oldest first. A version that the cluster makes no pods for has one that is only a name, its
    Deployment's."""
    versions = {root.version: root for root in roots}
    found = []
    for pod in pods:
        phase, failure = standing(pod, versions.get(pod.version)), None
        if phase is Phase.ENDED:
            failure = verdict.removed(pod)
        elif phase is Phase.STARTING:
            judged = verdict.judge(pod, warnings=warnings(pod), log=log(pod), now=now, patience=patience)
            if judged is not None:
                failure = judged.failure
                phase = Phase.FAILED if judged.final else phase
        found.append(_replica(pod, phase, failure, usage.get(pod.name)))
    found += [
        unmade(root.name, root.version, _digest(root), *trouble)
        for root in versions.values()
        if (trouble := verdict.not_created(root))
    ]
    return sorted(found, key=lambda replica: (replica.started_at, replica.id))


def standing(pod: Pod, root: Root | None) -> Phase:
    """Its phase, but for what its failures add: Starting may be Failed."""
    if runs.is_over(pod) and pod.deleting_since is None:
        return Phase.ENDED
    gate, stale = gate_of(pod), root is not None and revision_of(pod) != revision(root)
    ending = pod.deleting_since is not None or (root is not None and root.deleting_since is not None)
    if ending or names.DRAINING in pod.annotations or gate is Gate.RELEASED:
        return Phase.DRAINING
    if stale and gate is Gate.UNSET:
        return Phase.DRAINING
    if runs.serves(pod):
        return Phase.READY
    return Phase.UNREADY if runs.has_served(pod) else Phase.STARTING


def member(pod: Pod, root: Root) -> Member:
    """What of it decides."""
    since = pod.annotations.get(names.DRAINING)
    gate = gate_of(pod)
    return Member(
        id=pod.name,
        revision=revision_of(pod),
        phase=standing(pod, root),
        proven=gate is not Gate.UNSET or runs.has_served(pod),
        started_at=pod.created_at.timestamp(),
        gate=gate,
        available=pod.holds("Ready"),
        deleting=pod.deleting_since is not None,
        draining_since=_moment(since) if since is not None else None,
    )


def scale(root: Root) -> Scale:
    """What of a Deployment decides."""
    return Scale(
        revision=revision(root),
        replicas=root.replicas,
        surge=root.max_surge if isinstance(root.max_surge, int) else None,
        observed=root.observed_generation >= root.generation,
        available=root.available,
    )


def gate_of(pod: Pod) -> Gate:
    condition = pod.condition(names.IN_SERVICE)
    if condition is None:
        return Gate.UNSET
    if condition.status == "True":
        return Gate.OPEN
    return Gate.RELEASED if condition.reason == RELEASED else Gate.UNSET


def revision(root: Root) -> str:
    """Of the pods that it starts."""
    return root.template_annotations.get(names.REVISION, "")


def revision_of(pod: Pod) -> str:
    return pod.annotations.get(names.REVISION, "")


def unmade(name: str, version: int, digest: str, failure: Failure, since: datetime) -> Replica:
    """What stands for the replicas that the cluster does not make."""
    return Replica(
        id=name,
        version=version,
        template_digest=digest,
        phase=Phase.FAILED,
        host="",
        port=0,
        restarts=0,
        started_at=since,
        failure=failure,
    )


def _digest(root: Root) -> str:
    return root.template_annotations.get(names.TEMPLATE, "")


def _replica(pod: Pod, phase: Phase, failure: Failure | None, usage: Usage | None) -> Replica:
    ready = pod.condition("ContainersReady")
    return Replica(
        id=pod.name,
        version=pod.version,
        template_digest=pod.annotations.get(names.TEMPLATE, ""),
        phase=phase,
        host=pod.ip,
        port=PORT if pod.ip else 0,
        restarts=runs.restarts(pod),
        started_at=pod.created_at,
        ready_since=ready.since if phase is Phase.READY and ready is not None else None,
        failure=failure,
        usage=usage,
    )


def _moment(text: str) -> float:
    """When it was marked; what somebody else has written there was long ago."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return 0.0
