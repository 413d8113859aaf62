"""What fake pods do, as kwok's stages: by themselves they get ready at once; a fate makes them fail, or take long.

A pod's fate is the value of `FATE` in the environment of its first container. The annotation `kwok.test/fate` comes
before it: it turns the fate of a pod that is there.

    ready           at once, its init containers over; after crashes, restarted
    slow-pull       its init containers run for three seconds before
    failed-pull     its init containers fail, again and again
    missing-image   ErrImagePull, then ImagePullBackOff
    slow-start      it runs for three seconds before it is ready
    never-ready     it runs
    crash           it runs and ends with exit code 1, again and again (CrashLoopBackOff)
    oom             likewise, OOMKilled

Readiness gates are left to whom they belong: as with the kubelet, a pod is Ready when its containers and all its gates
are. A pod that is deleted is gone at once.
"""

from string import Template
from typing import Any

FATE = "FATE"
ANNOTATION = "kwok.test/fate"

_SLOW, _RUN, _BACK_OFF = 3000, 200, 1000  # milliseconds

# jq over a pod.
_WORDS = f"""
def fate: .metadata.annotations["{ANNOTATION}"]
    // ([.spec.containers[0].env[]? | select(.name == "{FATE}") | .value] | first) // "ready";
def is($condition): [.status.conditions[]? | select(.type == $condition) | .status] | first == "True";
def unready: is("ContainersReady") | not;
def gates: [.spec.readinessGates[]?.conditionType as $gate | is($gate)] | all;
def states: [.status | .initContainerStatuses[]?, .containerStatuses[]? | .state];
def waits($reason): states | any(.waiting.reason == $reason);
def runs: states | any(.running != null);
def fresh: states == [];
def loops: waits("CrashLoopBackOff");
"""


class _Text(Template):
    """With `@name`: the dollar is Go's, whose templates over the pod these are."""

    delimiter = "@"


_STATUS = _Text("""
phase: @phase
startTime: {{ or .status.startTime Now | Quote }}
hostIP: {{ NodeIPWith .spec.nodeName | Quote }}
podIP: {{ PodIPWith .spec.nodeName false .metadata.uid .metadata.name .metadata.namespace | Quote }}
conditions:
- {type: Initialized, status: "@initialized", lastTransitionTime: {{ Now | Quote }}}
- {type: ContainersReady, status: "@ready", lastTransitionTime: {{ Now | Quote }}}
- type: Ready
  status: {{ if .spec.readinessGates }}"False"{{ else }}"@ready"{{ end }}
  lastTransitionTime: {{ Now | Quote }}
""")
_CONTAINERS = _Text("""
@{kind}Statuses:
{{ $before := dict "restartCount" 0 "lastState" dict }}
{{ with .status.@{kind}Statuses }}{{ $before = index . 0 }}{{ end }}
{{ range .spec.@{kind}s }}
- name: {{ .name | Quote }}
  image: {{ .image | Quote }}
  imageID: ""
  restartCount: {{ add $before.restartCount @again }}
  ready: @ready
  started: @ready
  state: @state
  lastState: @last
{{ end }}
""")
_GATED = _Text("""
conditions:
- {type: Ready, status: "@ready", lastTransitionTime: {{ Now | Quote }}}
""")
_ENDED = _Text("""{terminated: {exitCode: @code, reason: @reason, message: "@message",
    startedAt: {{ Now | Quote }}, finishedAt: {{ Now | Quote }}}}""")
_WAITING = _Text("""{waiting: {reason: @reason, message: "@message"}}""")


def _ended(code: int, reason: str, message: str = "") -> str:
    return _ENDED.substitute(code=code, reason=reason, message=message)


def _waiting(reason: str, message: str = "") -> str:
    return _WAITING.substitute(reason=reason, message=message)


_RUNNING = "{running: {startedAt: {{ Now | Quote }}}}"
_COMPLETED = _ended(0, "Completed")
_BACKING_OFF = _waiting("CrashLoopBackOff", "back-off 1s restarting failed container")
_NO_IMAGE = "failed to pull and unpack image: failed to resolve reference: not found"


def _status(state: str, *, ready: bool = False, phase: str = "Running", again: bool = False, last: str = "") -> str:
    """A pod whose init containers are over. `again` counts a restart; `last` is how the run before ended, if new."""
    return (
        _STATUS.substitute(phase=phase, initialized=True, ready=ready)
        + _containers("initContainer", _COMPLETED, ready=True)
        + _containers("container", state, ready=ready, again=again, last=last)
    )


def _pulling(state: str, *, again: bool = False, last: str = "") -> str:
    """A pod in its init containers."""
    return (
        _STATUS.substitute(phase="Pending", initialized=False, ready=False)
        + _containers("initContainer", state, again=again, last=last)
        + _containers("container", _waiting("PodInitializing"))
    )


def _containers(kind: str, state: str, *, ready: bool = False, again: bool = False, last: str = "") -> str:
    last = last or "{{ $before.lastState | toJson }}"
    return _CONTAINERS.substitute(kind=kind, state=state, ready=str(ready).lower(), again=int(again), last=last)


def _stage(
    name: str, fates: str, when: str, status: str, *, after: int = 0, event: tuple[str, str] | None = None
) -> dict[str, Any]:
    """After so many milliseconds a pod of one of the `fates` ("": any) of which `when` is true gets this status."""
    one_of = " or ".join(f'fate == "{each}"' for each in fates.split()) or "true"
    steps: list[dict[str, Any]] = [{"patch": {"subresource": "status", "root": "status", "template": status}}]
    if event:
        reason, message = event
        steps.append({"event": {"type": "Warning", "reason": reason, "message": message}})
    return _document(name, f".metadata.deletionTimestamp == null and ({one_of}) and ({when})", steps, after)


def _document(name: str, when: str, steps: list[dict[str, Any]], after: int = 0) -> dict[str, Any]:
    expression = {"jq": {"key": f"{_WORDS} {when}", "operator": "In", "values": ["true"]}}
    return {
        "apiVersion": "kwok.x-k8s.io/v1alpha1",
        "kind": "Stage",
        "metadata": {"name": f"pod-{name}"},
        "spec": {
            "resourceRef": {"apiGroup": "v1", "kind": "Pod"},
            "selector": {"matchExpressions": [expression]},
            "delay": {"durationMilliseconds": after},
            "steps": steps,
        },
    }


def stages() -> list[dict[str, Any]]:
    """Those of pods. Those of nodes come with kwok."""
    ready, ready_again = _status(_RUNNING, ready=True), _status(_RUNNING, ready=True, again=True)
    crashed = _status(_BACKING_OFF, last=_ended(1, "Error", "ValueError: no such column"))
    killed = _status(_BACKING_OFF, last=_ended(137, "OOMKilled"))
    pull_failed = _pulling(_BACKING_OFF, last=_ended(1, "Error", "the model has another digest"))
    no_image, no_image_still = (
        _status(_waiting(reason, _NO_IMAGE), phase="Pending") for reason in ("ErrImagePull", "ImagePullBackOff")
    )
    failed, back_off = ("Failed", _NO_IMAGE), ("BackOff", "Back-off restarting failed container")
    return [
        _stage("ready", "ready", "unready and (loops | not)", ready),
        _stage("ready-again", "ready", "unready and loops", ready_again),
        _stage("pulls", "slow-pull failed-pull", "fresh", _pulling(_RUNNING)),
        _stage("pulled", "slow-pull", "runs and unready", ready, after=_SLOW),
        _stage("pull-failed", "failed-pull", "runs", pull_failed, after=_RUN, event=back_off),
        _stage("pulls-again", "failed-pull", "loops", _pulling(_RUNNING, again=True), after=_BACK_OFF),
        _stage("no-image", "missing-image", "fresh", no_image, event=failed),
        _stage("no-image-still", "missing-image", 'waits("ErrImagePull")', no_image_still, after=_BACK_OFF),
        _stage("runs", "slow-start never-ready crash oom", "fresh", _status(_RUNNING)),
        _stage("started", "slow-start", "runs and unready", ready, after=_SLOW),
        _stage("crashed", "crash", "runs", crashed, after=_RUN, event=back_off),
        _stage("killed", "oom", "runs", killed, after=_RUN, event=back_off),
        _stage("runs-again", "crash oom", "loops", _status(_RUNNING, again=True), after=_BACK_OFF),
        _stage("gates-open", "", '(unready | not) and (is("Ready") | not) and gates', _GATED.substitute(ready=True)),
        _stage("gate-closed", "", 'is("Ready") and (gates | not)', _GATED.substitute(ready=False)),
        _document("deleted", ".metadata.deletionTimestamp != null", [{"delete": True}]),
    ]
