"""Why a pod does not serve: one cause, its evidence and what to do, out of its status and the warnings about it.

Pure. Whoever knows it best is quoted: the registry, the scheduler, the kubelet, the quota. The model server's
termination message is believed for what it alone can know, as on every platform.

Left out: whether the pod serves (`observation`), what happens next (`steps`).
"""

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from services.deployer.platforms import causes
from services.deployer.platforms.causes import ADVICE, LOG_LINES, ended, last_word
from services.deployer.platforms.kubernetes import names, runs
from services.deployer.platforms.kubernetes.objects import (
    Condition,
    Container,
    Pod,
    PodWarning,
    Root,
    Terminated,
    Waiting,
)
from services.deployer.platforms.kubernetes.runs import Run
from services.deployer.platforms.platform import Cause, Evidence, Failure

STABLE = 60.0
"""Seconds; a run for so long that was Ready in the end wipes out the failures before it."""
DEAF = 15.0
"""Seconds; who is killed after being unready for so long was killed for that. The kubelet says so in an event as well,
but of a pod that it has already said much about it drops what comes next."""
FINAL = 2
"""The failure of the second run is told as the replica's; the third finds it told already."""
LINES = 5.0
"""Seconds that the last lines of a run have to come: whoever hears that it failed sees at once why."""
MOUNTS = 3
"""So often a volume must not have been mounted before that is more than bad luck."""

_NO_IMAGE = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "RegistryUnavailable", "SignatureValidationFailed"}
)
_NO_CONTAINER = frozenset({"CreateContainerConfigError", "CreateContainerError", "InvalidImageName"})
_MISSING = re.compile(r'(?:secret|configmap|persistentvolumeclaim) "([^"]+)" (?:not found|is being deleted)')
_NO_ACCOUNT = "error looking up service account"  # a namespace that was only just made has none yet
_DENIED = re.compile("permission denied|operation not permitted|(run|be) (as )?root", re.IGNORECASE)
_AS_NOBODY = (
    "It was refused what root may do. Replicas never run as root, whatever their image says: let it run as any user, "
    "listen on a port above 1023 and write to /tmp or a volume."
)
_TOLD_TO_END = frozenset({0, 128 + signal.SIGTERM, 128 + signal.SIGKILL})
_LIMIT = re.compile(r"(\d+)([KMGTPE]i?|k)?$")


@dataclass(frozen=True)
class Verdict:
    """`final`: it cannot run, or its runs fail one after the other. Otherwise it may be well the next time."""

    failure: Failure
    final: bool


def judge(
    pod: Pod, *, warnings: Sequence[PodWarning], log: Sequence[str] | None, now: datetime, patience: float
) -> Verdict | None:
    """Of a pod that does not serve; None when nothing has failed. `log`: the end of the last run's output, None while
    it is not here yet. For `patience` seconds a pod may find no place: another one may be leaving, a node may be
    coming."""
    container, run = runs.present(pod), runs.last_run(pod)
    waiting = container.state if container is not None and isinstance(container.state, Waiting) else None
    if container is not None and waiting is not None and waiting.reason in _NO_IMAGE:
        again = waiting.reason == "ImagePullBackOff" or any(each.reason == "BackOff" for each in warnings)
        return Verdict(_no_image(container, waiting), again or waiting.reason != "ErrImagePull")
    if waiting is not None and waiting.reason in _NO_CONTAINER:
        return None if _is_coming(pod, waiting.message) else Verdict(_not_as_described(waiting.message), final=True)
    if run is not None:
        if log is None and run.number <= FINAL and _has_just_ended(run, now=now):
            return None
        stable = run.was_ready and run.seconds >= STABLE
        return Verdict(_of_run(run, warnings=warnings, log=log or ()), run.number >= FINAL and not stable)
    scheduled = pod.condition("PodScheduled")
    if scheduled is not None and scheduled.status == "False":
        return _unscheduled(pod, scheduled, now=now, patience=patience)
    return _unmounted(pod, warnings) if container is None or waiting is not None else None


def removed(pod: Pod) -> Failure:
    """Of a pod that its node has thrown out, or that has ended for another reason of its own."""
    reason = pod.reason or "Ended"
    # A node that has too little left for a pod refuses it, in much the same words.
    memory = reason == "Evicted" and "memory" in pod.message
    return Failure(
        cause=Cause.OUT_OF_MEMORY if memory else Cause.CRASH,
        message=f"Its node has ended it ({reason}): {pod.message}"
        if pod.message
        else f"Its node has ended it: {reason}.",
        advice=ADVICE[Cause.OUT_OF_MEMORY] if memory else "Another one is started in its place.",
    )


def not_created(root: Root) -> tuple[Failure, datetime] | None:
    """Why the cluster makes no (more) pods for a Deployment, and since when, if so."""
    trouble = next((each for each in root.conditions if each.type == "ReplicaFailure"), None)
    if trouble is None or not root.replicas or _NO_ACCOUNT in trouble.message:
        return None
    return refused(trouble.message), trouble.since or root.created_at


def refused(message: str) -> Failure:
    """What the cluster will not make."""
    cause = Cause.QUOTA if "exceeded quota" in message else Cause.CONFIGURATION
    said = message.split("is forbidden: ", 1)[-1]
    return Failure(cause=cause, message=f"The cluster refuses it: {said}", advice=ADVICE[cause])


def _has_just_ended(run: Run, *, now: datetime) -> bool:
    return run.end.finished_at is not None and (now - run.end.finished_at).total_seconds() < LINES


def _of_run(run: Run, *, warnings: Sequence[PodWarning], log: Sequence[str]) -> Failure:
    code = run.end.exit_code
    said, advice = last_word(run.end.message) or ("", None)
    if run.end.reason == "OOMKilled":
        cause, said, advice = (
            Cause.OUT_OF_MEMORY,
            f"It used more than its {_mebibytes(run.container.memory_limit)}.",
            None,
        )
        code = 128 + signal.SIGKILL
    elif run.end.reason in ("StartError", "ContainerCannotRun"):
        cause, said = Cause.CRASH, f"Its command cannot be run: {run.end.message}"
        advice = "Check the command and that the image has it."
    elif run.container.name == names.INIT_CONTAINER or code == causes.EXIT_NOT_FETCHED:
        cause, said = Cause.MODEL_DOWNLOAD, said or f"Fetching the model ended with exit code {code}."
    elif code == causes.EXIT_NOT_LOADED:
        cause, said = Cause.MODEL_LOAD, said or "The model did not load."
    elif run.unready_seconds >= DEAF and code in _TOLD_TO_END:
        heard = _heard(warnings, "Liveness")
        cause, said, advice = Cause.PROBE, f"It stopped answering and was ended{f': {heard}' if heard else '.'}", None
    elif _given_up(run, heard := _heard(warnings, "Startup")):
        cause, said, advice = Cause.PROBE, f"It did not become healthy in time: {heard or 'it never answered.'}", None
    else:
        cause, said = Cause.CRASH, said or ended(code)
    lines = log or ([] if last_word(run.end.message) else _stamped(run.end))
    if cause is Cause.CRASH and advice is None and any(_DENIED.search(line) for line in lines):
        advice = _AS_NOBODY
    return Failure(
        cause=cause,
        message=said,
        advice=advice or ADVICE[cause],
        evidence=Evidence(exit_code=code, log=tuple(lines[-LOG_LINES:])),
    )


def _stamped(end: Terminated) -> list[str]:
    """The end of the output as the kubelet keeps it, without times: all that is known is when the run ended."""
    at = (end.finished_at or datetime.fromtimestamp(0, UTC)).astimezone(UTC)
    return [f"{at:%Y-%m-%dT%H:%M:%S.%fZ} {line}" for line in end.message.splitlines()]


def _given_up(run: Run, heard: str | None) -> bool:
    """Whether it was the kubelet who ended the run, as the startup probe went unanswered for too long. One who is told
    to end may do so with any exit code, but a crash before that time is one."""
    killed = run.end.exit_code in _TOLD_TO_END - {0}
    allowed = run.container.start_seconds
    return not run.was_ready and bool(allowed) and run.seconds >= allowed - 1 and (killed or heard is not None)


def _heard(warnings: Sequence[PodWarning], probe: str) -> str | None:
    """What the kubelet heard last when a probe failed."""
    prefix = f"{probe} probe failed: "
    heard = [each for each in warnings if each.reason == "Unhealthy" and each.message.startswith(prefix)]
    if not heard:
        return None
    return max(heard, key=lambda each: each.resource_version).message.removeprefix(prefix)


def _no_image(container: Container, waiting: Waiting) -> Failure:
    said = waiting.message or f"the image {container.image} cannot be pulled"
    return Failure(
        cause=Cause.IMAGE_PULL,
        message=f"The image {container.image} cannot be pulled: {said}" if container.image not in said else said,
        advice=ADVICE[Cause.IMAGE_PULL],
    )


def _not_as_described(message: str, advice: str | None = None) -> Failure:
    if "runAsNonRoot" in message or "run as root" in message:
        advice = "Replicas never run as root: build the image with a numeric USER other than 0."
    return Failure(
        cause=Cause.CONFIGURATION,
        message=f"Its container cannot be made: {message}",
        advice=advice or ADVICE[Cause.CONFIGURATION],
    )


def _unscheduled(pod: Pod, scheduled: Condition, *, now: datetime, patience: float) -> Verdict | None:
    said = scheduled.message.split(" preemption: ")[0]
    if _is_coming(pod, said):
        return None
    if claim := _MISSING.search(said):
        failure = _not_as_described(f'the volume claim "{claim[1]}" is not there.')
        return Verdict(failure, final=True)
    late = scheduled.since is not None and now - scheduled.since >= timedelta(seconds=patience)
    if "PersistentVolumeClaim" in said:
        return Verdict(_not_as_described(said, "Check that there is a volume for each claim, with these labels."), late)
    failure = Failure(
        cause=Cause.UNSCHEDULABLE,
        message=f"No node has a place for it: {said or 'the scheduler says no more.'}",
        advice=ADVICE[Cause.UNSCHEDULABLE],
    )
    return Verdict(failure, late)


def _unmounted(pod: Pod, warnings: Sequence[PodWarning]) -> Verdict | None:
    failed = [each for each in warnings if each.reason in ("FailedMount", "FailedAttachVolume")]
    if not failed:
        return None
    last = max(failed, key=lambda each: each.resource_version)
    if _is_coming(pod, last.message):
        return None
    return Verdict(_not_as_described(last.message), final=last.count >= MOUNTS)


def lacks_ours(pod: Pod) -> bool:
    """Whether it waits for a Secret, a ConfigMap or a claim that we are to make."""
    container, scheduled = runs.present(pod), pod.condition("PodScheduled")
    if scheduled is not None and scheduled.status == "False":
        return _is_coming(pod, scheduled.message)
    waiting = container.state if container is not None and isinstance(container.state, Waiting) else None
    return waiting is not None and waiting.reason in _NO_CONTAINER and _is_coming(pod, waiting.message)


def _is_coming(pod: Pod, message: str) -> bool:
    """Whether it lacks only what we are about to make: a pod may be there before its Secret is."""
    root = f"{pod.labels.get(names.DEPLOYMENT)}-v{pod.version}-{pod.deployment.hex[:8]}-"
    missing = _MISSING.search(message)
    return missing is not None and missing[1].startswith((root, f"{names.MANAGER}-"))


def _mebibytes(limit: str) -> str:
    """A quantity of memory as people read it on every platform."""
    if (found := _LIMIT.match(limit)) is None:
        return limit or "memory"
    unit = found[2] or ""
    step = 1024 if unit.endswith("i") else 1000
    size = int(found[1]) * step ** (" kmgtpe".index(unit[0].lower()) if unit else 0)
    return f"{size / 2**20:.0f} MiB"
