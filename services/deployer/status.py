"""What is to be said of a deployment, from its spec, its replicas and what the gateway has acknowledged. Pure.

The status tells the truth or says that it does not know: Deployed only when every wanted replica of every version is
Ready with the wanted template *and* Envoy has acknowledged the present spec and replicas. With the gateway dead a
change stays Deploying, with the condition RoutesEnforced saying why, until the progress deadline makes it Failed.

A version fails early, without waiting for the deadline, once a further attempt cannot be expected to help. Failed is
not the end: the platform goes on trying, and what heals is Deployed again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from services.deployer.deployments.domain import Spec, VersionSpec
from services.deployer.platforms import Cause, Phase, Replica

Conditions = list[dict[str, Any]]

ATTEMPTS = 3
"""A replica that fails so many times in a row has failed its version."""

_ROUTES_ADVICE = "See whether the gateway and Envoy are up; nothing that serves is taken away meanwhile."


@dataclass(frozen=True, kw_only=True)
class Routed:
    """What the gateway's row says; without one, nothing is routed."""

    generation: int = 0
    endpoints_generation: int = 0
    rejected: str | None = None


@dataclass(frozen=True, kw_only=True)
class World:
    """All that a status is made of. `templates` holds the wanted template's digest of each version, `addresses` where
    one is reached past the gateway."""

    spec: Spec
    stopped: bool
    generation: int
    endpoints_generation: int
    templates: Mapping[int, str]
    replicas: Sequence[Replica]
    routable: frozenset[str]
    routed: Routed
    addresses: Mapping[int, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Status:
    """The reconciler's half of a deployment's row."""

    phase: str
    conditions: Conditions
    versions: list[dict[str, Any]]
    progressing_since: datetime | None
    settled: bool
    deadline: datetime | None
    """When it is Failed if nothing changes."""


@dataclass(frozen=True, kw_only=True)
class Before:
    """What stood in the row."""

    phase: str
    conditions: Conditions
    versions: Sequence[Mapping[str, Any]]
    progressing_since: datetime | None


def assess(world: World, before: Before, *, now: datetime) -> Status:
    enforced = _enforced(world)
    if world.stopped:
        return _stopped(world, before, enforced=enforced, now=now)
    since = _progressing_since(world, before, now=now)
    deadline = since + timedelta(seconds=world.spec["progress_deadline"])
    late = now >= deadline
    versions = [_version(world, version, late=late) for version in world.spec["versions"]]
    ready = all(version["phase"] == "Deployed" for version in versions)
    # Stale replicas that still get requests answer with what was there before.
    replaced = not any(_is_stale(world, replica) and replica.id in world.routable for replica in world.replicas)
    if ready and late and not (replaced and enforced.good):
        overdue = _failure(Cause.PROGRESS_DEADLINE, f"Its replicas are ready, but: {enforced.message}", _ROUTES_ADVICE)
        versions = [{**version, "phase": "Failed", "failure": overdue} for version in versions]
    failures = [version["failure"] for version in versions if version["failure"]]
    if ready and replaced and enforced.good:
        phase, since_, deadline_ = "Deployed", None, None
    elif failures or late:
        phase, since_, deadline_ = "Failed", since, None
    else:
        phase, since_, deadline_ = "Deploying", since, deadline
    conditions = [
        _readiness(world, versions, failures),
        _progress(world, phase, failures, late=late, replaced=replaced),
        enforced.condition(),
    ]
    leaving = any(replica.phase is Phase.DRAINING for replica in world.replicas)
    return Status(
        phase=phase,
        conditions=_since(conditions, before.conditions, now=now),
        versions=versions,
        progressing_since=since_,
        settled=phase == "Deployed" and not leaving,
        deadline=deadline_,
    )


def unavailable(*, spec: Spec, stopped: bool, before: Before, error: str, now: datetime) -> Status:
    """The platform cannot be reached: nothing new is known of the replicas, and what was wanted has not been done."""
    since = before.progressing_since or now
    late = not stopped and now >= since + timedelta(seconds=spec["progress_deadline"])
    phase = "Stopping" if stopped else "Failed" if late else "Deploying"
    message = f"The platform cannot do its work: {error}"
    return _halted(before, phase, "PlatformUnavailable", message, since=None if stopped else since, now=now)


def unbuildable(*, before: Before, reason: str, message: str, advice: str, now: datetime) -> Status:
    """What is stored does not make a replica: what was there before goes on, and nobody has looked at it."""
    since = before.progressing_since or now
    return _halted(before, "Failed", reason, f"{message} {advice}", since=since, now=now)


def _halted(before: Before, phase: str, reason: str, message: str, *, since: datetime | None, now: datetime) -> Status:
    """It does not progress, for that reason; all else is as it was known last."""
    progress = {"type": "Progressing", "status": "False", "reason": reason, "message": message}
    conditions = [
        progress if condition["type"] == "Progressing" else {k: v for k, v in condition.items() if k != "since"}
        for condition in before.conditions or [progress]
    ]
    return Status(
        phase=phase,
        conditions=_since(conditions, before.conditions, now=now),
        versions=[dict(version) for version in before.versions],
        progressing_since=since,
        settled=False,
        deadline=None,
    )


def _stopped(world: World, before: Before, *, enforced: "_Enforced", now: datetime) -> Status:
    left = [replica for replica in world.replicas if replica.phase is not Phase.ENDED]
    done = not left and enforced.good
    phase = "Stopped" if done else "Stopping"
    message = "It is stopped." if done else f"{len(left)} replicas are still to end."
    conditions = [
        {"type": "Ready", "status": "False", "reason": phase, "message": message},
        {"type": "Progressing", "status": "False" if done else "True", "reason": phase, "message": message},
        enforced.condition(),
    ]
    versions = [
        _status(world, version, phase=phase, ready=0, wanted=0, template="") for version in world.spec["versions"]
    ]
    return Status(
        phase=phase,
        conditions=_since(conditions, before.conditions, now=now),
        versions=versions,
        progressing_since=None,
        settled=done,
        deadline=None,
    )


# Versions


def _version(world: World, spec: VersionSpec, *, late: bool) -> dict[str, Any]:
    number, wanted = spec["number"], spec["replicas"]["min"]
    template = world.templates[number]
    fresh = [r for r in world.replicas if r.version == number and r.template_digest == template]
    ready = sum(r.phase is Phase.READY and r.id in world.routable for r in fresh)
    if ready >= wanted:
        return _status(world, spec, phase="Deployed", ready=ready, wanted=wanted, template=template)
    live = [r for r in fresh if r.phase not in (Phase.DRAINING, Phase.ENDED)]
    failed = next((r for r in live if is_hopeless(r)), None)
    if failed is None and late:
        failed = next((r for r in live if r.failure), None)
    failure = failure_of(failed) if failed else _overdue(world, spec, live, ready=ready, wanted=wanted, late=late)
    phase = "Failed" if failure else "Deploying"
    return _status(world, spec, phase=phase, ready=ready, wanted=wanted, template=template, failure=failure)


def _status(
    world: World,
    spec: VersionSpec,
    *,
    phase: str,
    ready: int,
    wanted: int,
    template: str,
    failure: dict[str, Any] | None = None,
) -> dict[str, Any]:
    return {
        "number": spec["number"],
        "phase": phase,
        "ready": ready,
        "wanted": wanted,
        "model": spec["model"],
        "digest": spec["digest"],
        "failure": failure,
        "addresses": list(world.addresses.get(spec["number"], ())),
        "template": template,  # not shown; says when a rollout began
    }


def is_hopeless(replica: Replica) -> bool:
    """Whether a replica's failure says that its version will not come up by itself.

    A model that does not load is as broken the next time; anything else may have been an accident, until it has
    happened `ATTEMPTS` times or the platform says that it cannot even be tried.
    """
    if replica.failure is None or replica.phase in (Phase.READY, Phase.DRAINING, Phase.ENDED):
        return False
    match replica.failure.cause:
        case Cause.MODEL_LOAD:
            return True
        case Cause.CRASH | Cause.OUT_OF_MEMORY | Cause.PROBE:
            return replica.phase is Phase.FAILED and replica.restarts + 1 >= ATTEMPTS
        case _:
            return replica.phase is Phase.FAILED


def failure_of(replica: Replica) -> dict[str, Any] | None:
    """A replica's failure as JSON."""
    if (failure := replica.failure) is None:
        return None
    return {
        "cause": str(failure.cause),
        "message": failure.message,
        "replica": replica.id,
        "evidence": {"exit_code": failure.evidence.exit_code, "log": list(failure.evidence.log)},
        "advice": failure.advice,
    }


def _overdue(
    world: World, spec: VersionSpec, live: Sequence[Replica], *, ready: int, wanted: int, late: bool
) -> dict[str, Any] | None:
    """Nothing has failed, and yet it is not there in time."""
    if not late:
        return None
    seconds, enforced = world.spec["progress_deadline"], _enforced(world)
    message = f"After {seconds} s, {ready} of {wanted} replicas of version {spec['number']} are ready."
    advice = "See the deployment log and the replicas' logs; give it longer with progress_deadline."
    if len(live) == ready and not enforced.good:  # no replica is late: the rollout waits for their routes
        message, advice = f"{message} {enforced.message}", _ROUTES_ADVICE
    return _failure(Cause.PROGRESS_DEADLINE, message, advice, replica=live[0].id if live else None)


def _failure(cause: Cause, message: str, advice: str, *, replica: str | None = None) -> dict[str, Any]:
    evidence: dict[str, Any] = {"exit_code": None, "log": []}
    return {"cause": str(cause), "message": message, "replica": replica, "evidence": evidence, "advice": advice}


def _is_stale(world: World, replica: Replica) -> bool:
    return replica.template_digest != world.templates.get(replica.version)


# Conditions


@dataclass(frozen=True)
class _Enforced:
    good: bool
    reason: str
    message: str

    def condition(self) -> dict[str, Any]:
        return {
            "type": "RoutesEnforced",
            "status": "True" if self.good else "False",
            "reason": self.reason,
            "message": self.message,
        }


def _enforced(world: World) -> _Enforced:
    routed = world.routed
    if routed.rejected is not None:
        return _Enforced(False, "Rejected", f"The data plane has refused the routes: {routed.rejected}")
    if routed.generation < world.generation or routed.endpoints_generation < world.endpoints_generation:
        return _Enforced(False, "Waiting", "The data plane has not acknowledged the latest routes yet.")
    return _Enforced(True, "Acknowledged", "The data plane has acknowledged the latest routes.")


def _readiness(world: World, versions: Sequence[dict[str, Any]], failures: Sequence[dict[str, Any]]) -> dict[str, Any]:
    ready, wanted = (sum(version[key] for version in versions) for key in ("ready", "wanted"))
    if all(version["ready"] >= version["wanted"] for version in versions):
        # The platform may run more than the least that is wanted, up to the versions' maximum.
        message = f"{ready} of {wanted} replicas are ready." if ready <= wanted else f"{ready} replicas are ready."
        return {"type": "Ready", "status": "True", "reason": "AllReplicasReady", "message": message}
    reason, message = "ReplicasNotReady", f"{ready} of {wanted} replicas are ready."
    if failures:
        reason = "".join(word.title() for word in failures[0]["cause"].split("_"))
        message = f"{message} {failures[0]['message']}"
    serving = sum(_is_stale(world, replica) and replica.id in world.routable for replica in world.replicas)
    if serving:
        message = f"{message} {serving} replicas of the specification before go on serving."
    return {"type": "Ready", "status": "False", "reason": reason, "message": message}


def _progress(
    world: World, phase: str, failures: Sequence[dict[str, Any]], *, late: bool, replaced: bool
) -> dict[str, Any]:
    condition = {"type": "Progressing", "status": "True", "reason": "RolloutInProgress"}
    match phase:
        case "Deployed":
            return condition | {"reason": "RolloutComplete", "message": "The rollout is complete."}
        case "Failed" if late:
            message = f"It is not complete after {world.spec['progress_deadline']} s."
            return condition | {"status": "False", "reason": "ProgressDeadlineExceeded", "message": message}
        case "Failed":
            message = f"{failures[0]['message']} {failures[0]['advice']}"
            return condition | {"status": "False", "reason": "ReplicasFailing", "message": message}
        case _:
            message = "Fresh replicas are coming up." if replaced else "Replicas are being replaced."
            return condition | {"message": message}


def _since(conditions: Conditions, before: Conditions, *, now: datetime) -> Conditions:
    """With the time at which each condition's status was last another."""
    stood = {condition["type"]: condition for condition in before}
    moment = now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return [
        {
            **condition,
            "since": old["since"]
            if (old := stood.get(condition["type"])) and old["status"] == condition["status"]
            else moment,
        }
        for condition in conditions
    ]


def _progressing_since(world: World, before: Before, *, now: datetime) -> datetime:
    """When the present rollout began: what makes no fresh replica does not set the deadline back."""
    wanted = {v["number"]: (world.templates[v["number"]], v["replicas"]["min"]) for v in world.spec["versions"]}
    stood = {v["number"]: (v.get("template"), v["wanted"]) for v in before.versions}
    if before.progressing_since is None or wanted != stood:
        return now
    return before.progressing_since
