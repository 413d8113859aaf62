"""What to do next with the pods of one version, so that the cluster's own controllers end only what nobody routes to.

Pure. `rollout.plan` says what is to go, as on every platform. What goes is ended by the Deployment controller, which
knows nothing of routes; but it takes no pod away as long as fewer are available than wanted (maxUnavailable 0), and of
several the ones that are not Ready. A pod of ours is Ready only while its readiness gate `moorage.io/in-service` is
open. So the gates steer the controller:

- A pod that is to go is marked as draining and goes on serving. Once it is not routed it is *released*: its gate is
  closed for good, and of those that are not Ready it is the first to be taken (pod-deletion-cost).
- A gate is opened when its pod is Ready and in service, and never more of them than replicas are wanted. So before a
  fresh pod's gate is opened, a stale one must have been released and have ceased to be Ready for all to see.
- A new template is applied only when each pod of the one before is available, released, or not routed with its gate
  open: what has never had its gate opened is free for the controller to take.
- `spec.replicas` is never lowered below the pods that are not released. In the middle of a rollout the surge is raised
  by as much for a moment, or the controller would at once scale all templates down in proportion; and a rollout that is
  under way is finished before `spec.replicas` is raised, which would start more of the stale template too.
- A released pod whose place is wanted again is deleted, for a fresh one.
- Of the pods that have ended by themselves (evicted, refused by their node) the last few stay, for their logs. Nobody
  else removes them: the cluster itself waits until there are thousands.

Applied again and again it converges. Left out: what a pod is to the eye (`observation`).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from services.deployer.platforms.platform import Phase, surge
from services.deployer.platforms.rollout import Candidate, plan

HISTORY = 3
"""So many ended pods of a version stay."""


class Gate(Enum):
    """Of a pod: not opened yet, open, or closed for good."""

    UNSET = auto()
    OPEN = auto()
    RELEASED = auto()


@dataclass(frozen=True)
class Member:
    """What of a pod decides about it. Times are seconds on one clock.

    `available`: it has the condition Ready, so the Deployment controller counts it. `deleting`: it has been deleted.
    """

    id: str
    revision: str
    phase: Phase
    proven: bool
    started_at: float
    gate: Gate = Gate.UNSET
    available: bool = False
    deleting: bool = False
    draining_since: float | None = None


@dataclass(frozen=True)
class Scale:
    """What of a Deployment decides. `surge` is None where it is the usual share; `observed`: its controller has seen
    the spec as it is; `available` is how many pods the controller takes for available."""

    revision: str
    replicas: int
    surge: int | None = None
    observed: bool = True
    available: int = 0


@dataclass(frozen=True)
class Steps:
    """The next ones, in this order. The gates to open were counted with those of `release` still open."""

    mark: tuple[str, ...] = ()
    release: tuple[str, ...] = ()
    open: tuple[str, ...] = ()
    delete: tuple[str, ...] = ()
    roll: bool = True
    """Whether another template may be applied now."""
    replicas: int = 0
    surge: int | None = None


def decide(
    *,
    wanted: int,
    revision: str,
    scale: Scale,
    members: Sequence[Member],
    keep: Collection[str],
    serving: Collection[str],
    now: float,
    settle: float = 0.0,
) -> Steps:
    """The next steps from `members` to `wanted` ones of that revision. To end all, any revision will do."""
    active = [m for m in members if not m.deleting and m.phase is not Phase.ENDED]
    rolling = wanted > 0 and revision != scale.revision
    mixed = bool(active) and (rolling or any(m.revision != scale.revision for m in active))
    goal = min(wanted, scale.replicas) if mixed else wanted
    planned = plan(
        wanted=goal,
        digest=revision if rolling else scale.revision,
        replicas=[_candidate(m) for m in members],
        keep=keep,
        serving=serving,
        now=now,
        settle=settle,
    )
    release = set(planned.end)
    if rolling:  # these the controller would be free to take, and none is routed
        release |= {m.id for m in active if m.gate is Gate.UNSET and _idle(m) and m.id not in keep}
    left = [m for m in active if m.gate is not Gate.RELEASED and m.id not in release]
    limbo = rolling and any(m.gate is Gate.UNSET or (m.id in keep and not m.available) for m in left)

    counted = [m for m in active if m.available or m.gate is Gate.OPEN]
    calm = not mixed or scale.available == sum(m.available for m in active)
    ready = [
        m
        for m in sorted(active, key=lambda m: m.started_at)
        if m.gate is Gate.UNSET and m.phase is Phase.READY and m.id in serving
        if m.id not in release and m.id not in planned.drain
    ]
    room = min(goal, scale.replicas) - len(counted) if calm else 0

    fresh = [m for m in active if m.revision == scale.revision]
    held = [m for m in fresh if m.available or m in left]
    replicas, more = _scaled(
        wanted, scale=scale, mixed=mixed, frozen=rolling or not calm, least=max(len(counted), len(held))
    )
    spent = [m for m in fresh if m.gate is Gate.RELEASED and not m.available]
    settled = scale.observed and not rolling and replicas == scale.replicas == goal
    missing = goal - (len(fresh) - len(spent))
    ended = sorted((m for m in members if m.phase is Phase.ENDED), key=lambda m: m.started_at)
    removed = [*(spent[: max(0, missing)] if settled else ()), *ended[:-HISTORY]]
    return Steps(
        mark=planned.drain,
        release=tuple(m.id for m in active if m.id in release),
        open=tuple(m.id for m in ready[: max(0, room)]),
        delete=tuple(m.id for m in removed),
        roll=not limbo,
        replicas=replicas,
        surge=more,
    )


def _candidate(member: Member) -> Candidate:
    return Candidate(
        id=member.id,
        template_digest=member.revision,
        phase=member.phase,
        proven=member.proven,
        started_at=member.started_at,
        draining_since=member.draining_since,
        ending=member.deleting or member.gate is Gate.RELEASED,
    )


def _idle(member: Member) -> bool:
    return member.phase not in (Phase.READY, Phase.DRAINING)


def _scaled(wanted: int, *, scale: Scale, mixed: bool, frozen: bool, least: int) -> tuple[int, int | None]:
    """What `spec.replicas` and the surge should be. `frozen`: nothing may be lowered now."""
    if wanted < scale.replicas and not (mixed and frozen):
        replicas = min(scale.replicas, max(wanted, least))
    else:
        replicas = scale.replicas if mixed else wanted
    now = surge(scale.replicas) if scale.surge is None else scale.surge
    if mixed and replicas < scale.replicas:
        return replicas, scale.replicas + now - replicas
    return replicas, None if scale.observed else scale.surge
