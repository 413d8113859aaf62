"""Which run of which container tells how a pod is, and whether it was Ready in it. Pure.

A pod's containers run one after the other: the init containers, then the replica. The one where that has come to is
the pod's *present* container.
"""

from dataclasses import dataclass
from datetime import datetime

from services.deployer.platforms.kubernetes.names import CONTAINER, IN_SERVICE, INIT_CONTAINER
from services.deployer.platforms.kubernetes.objects import Container, Pod, Running, Terminated, Waiting


@dataclass(frozen=True)
class Run:
    """A run that has ended. `number` counts from 1; `latest`: no other has begun since."""

    container: Container
    number: int
    end: Terminated
    latest: bool
    was_ready: bool
    unready_seconds: float
    """How long it had been unready when it ended, after it was Ready."""

    @property
    def seconds(self) -> float:
        if self.end.started_at is None or self.end.finished_at is None:
            return 0.0
        return (self.end.finished_at - self.end.started_at).total_seconds()


def present(pod: Pod) -> Container | None:
    """None before the kubelet has said anything of the pod."""
    for container in pod.init_containers:
        done = isinstance(container.state, Terminated) and container.state.exit_code == 0
        if not done and container.state is not None:
            return container
    found = pod.container(CONTAINER)
    return found if found is not None and found.state is not None else None


def last_run(pod: Pod) -> Run | None:
    """The last run of the present container that has ended."""
    container = present(pod)
    if container is None:
        return None
    match container.state:
        case Terminated() as end:
            number, latest = container.restarts + 1, True
        case Waiting() if container.last is not None:
            end, number, latest = container.last, container.restarts + 1, True
        case Running() if container.last is not None:
            end, number, latest = container.last, container.restarts, False
        case _:
            return None
    was_ready = _was_ready(pod, since=end.started_at)
    unready = _unready_seconds(pod, until=end.finished_at) if was_ready else 0.0
    return Run(container, number, end, latest, was_ready=was_ready, unready_seconds=unready)


def is_over(pod: Pod) -> bool:
    """Whether nothing of it will ever run again: its node has refused it, or thrown it out."""
    return pod.phase in ("Failed", "Succeeded")


def is_lost(pod: Pod) -> bool:
    """Whether its node is not heard of any more. The cluster then takes Ready away and leaves all else as the kubelet
    wrote it last: the replica goes on looking well. (A kubelet that takes Ready away says why.)"""
    ready, gate = pod.condition("Ready"), pod.condition(IN_SERVICE)
    if ready is None or gate is None or ready.since is None or gate.since is None:
        return False
    return ready.status == "False" and not ready.reason and gate.status == "True" and ready.since > gate.since


def serves(pod: Pod) -> bool:
    """Whether the replica answers its probe, as far as anybody knows."""
    container = pod.container(CONTAINER)
    running = container is not None and isinstance(container.state, Running) and container.ready
    return running and not is_lost(pod)


def has_served(pod: Pod) -> bool:
    """Whether the replica has answered its probe since it was started last."""
    container = pod.container(CONTAINER)
    if container is None or not isinstance(container.state, Running):
        return False
    return container.ready or (container.started and _was_ready(pod, since=container.state.started_at))


def is_pulling(pod: Pod) -> bool:
    """Whether it may still have to fetch its model."""
    pull = pod.container(INIT_CONTAINER)
    done = pull is None or (isinstance(pull.state, Terminated) and pull.state.exit_code == 0)
    return not done and pod.deleting_since is None and not is_over(pod)


def restarts(pod: Pod) -> int:
    return sum(container.restarts for container in (*pod.init_containers, *pod.containers))


def _was_ready(pod: Pod, *, since: datetime | None) -> bool:
    """The condition changes when the replica gets Ready and when it ceases to be: a change since then means that it
    was. (It is made before the first run.)"""
    condition = pod.condition("ContainersReady")
    if condition is None or condition.since is None or since is None:
        return False
    return condition.status == "True" or condition.since > since


def _unready_seconds(pod: Pod, *, until: datetime | None) -> float:
    condition = pod.condition("ContainersReady")
    if condition is None or condition.status == "True" or condition.since is None or until is None:
        return 0.0
    return max(0.0, (until - condition.since).total_seconds())
