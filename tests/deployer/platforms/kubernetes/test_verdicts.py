"""What is said of a pod: phases and failures, from the status and warnings that a real cluster was seen to give."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from services.deployer.platforms import Cause, Phase, Replica
from services.deployer.platforms.kubernetes import names, observation, verdict
from services.deployer.platforms.kubernetes.objects import (
    Condition,
    Pod,
    PodWarning,
    Root,
    Running,
    Waiting,
)
from services.deployer.platforms.kubernetes.steps import Gate
from tests.deployer.platforms.kubernetes.judged import (
    NOW,
    PATIENCE,
    ROOT,
    at,
    condition,
    container,
    ended,
    pod,
    root,
    warning,
)


def seen(
    found: Pod, *warnings: PodWarning, log: tuple[str, ...] | None = (), of: Root | None = None, now: datetime = NOW
) -> Replica:
    (replica,) = observation.replicas(
        [found],
        [of or root()],
        warnings=lambda _: warnings,
        log=lambda _: log,
        usage={},
        now=now,
        patience=PATIENCE,
    )
    return replica


def told(found: Pod, *warnings: PodWarning) -> tuple[Cause, Phase, str]:
    replica = seen(found, *warnings)
    assert replica.failure is not None
    assert replica.failure.advice
    return replica.failure.cause, replica.phase, replica.failure.message


def waiting(reason: str, message: str = "", **facts: Any) -> Pod:
    return pod(container(state=Waiting(reason, message), **facts))


def test_a_pod_from_its_making_to_its_end() -> None:
    def phase(found: Pod) -> Phase:
        return seen(found).phase

    running = pod(container(state=Running(at(10))))
    assert phase(pod(container(state=None), ip="")) is Phase.STARTING
    assert phase(running) is Phase.STARTING
    serving = pod(container(ready=True, started=True), conditions=())
    serving = replace(serving, conditions=(condition("ContainersReady", True, since=12),))
    assert phase(serving) is Phase.READY
    assert seen(serving).ready_since == at(12)
    assert (seen(serving).host, seen(serving).port) == ("10.244.0.7", 8080)
    ill = pod(container(started=True))
    ill = replace(ill, conditions=(condition("ContainersReady", False, since=20),))
    assert phase(ill) is Phase.UNREADY
    assert (
        phase(replace(serving, annotations={**serving.annotations, names.DRAINING: NOW.isoformat()})) is Phase.DRAINING
    )
    assert phase(replace(serving, deleting_since=NOW)) is Phase.DRAINING
    assert phase(replace(serving, phase="Failed", reason="Evicted")) is Phase.ENDED


def test_one_that_has_only_passed_its_startup_probe_has_not_been_ready() -> None:
    assert seen(pod(container(started=True))).phase is Phase.STARTING


def test_one_whose_node_is_lost_is_not_ready() -> None:
    """The cluster takes the condition Ready away, without a reason, and leaves the rest as the kubelet wrote it."""
    before = condition("ContainersReady", True, since=12), condition(names.IN_SERVICE, True, since=13)
    well = container(ready=True, started=True)
    unaware = condition("Ready", False, since=1, reason="ReadinessGatesNotReady")
    for ready, phase in (
        (condition("Ready", True, since=14), Phase.READY),
        (unaware, Phase.READY),
        (replace(unaware, reason=""), Phase.READY),
        (condition("Ready", False, since=70), Phase.UNREADY),
    ):
        assert seen(pod(well, conditions=(*before, ready))).phase is phase


def test_what_the_controller_may_take_is_draining() -> None:
    """It is of an older template and was never in service."""
    found = pod(container(ready=True, started=True))
    newer = root(template_annotations={names.REVISION: "r2"})
    assert seen(found, of=newer).phase is Phase.DRAINING
    gate = condition(names.IN_SERVICE, True)
    assert seen(replace(found, conditions=(*found.conditions, gate)), of=newer).phase is Phase.READY
    released = Condition(names.IN_SERVICE, "False", observation.RELEASED, "", NOW)
    assert seen(replace(found, conditions=(*found.conditions, released))).phase is Phase.DRAINING
    closed = Condition(names.IN_SERVICE, "False", "SomebodyElses", "", NOW)
    assert observation.gate_of(replace(found, conditions=(closed,))) is Gate.UNSET


@pytest.mark.parametrize(
    ("found", "warnings", "cause", "phase", "said"),
    [
        (
            waiting("ErrImagePull", 'failed to pull image "registry.example/churn:7": not found'),
            [],
            Cause.IMAGE_PULL,
            Phase.STARTING,
            "not found",
        ),
        (waiting("ErrImagePull", "denied"), [warning("BackOff", "Back-off")], Cause.IMAGE_PULL, Phase.FAILED, "denied"),
        (waiting("ImagePullBackOff", "401"), [], Cause.IMAGE_PULL, Phase.FAILED, "registry.example/churn:7 cannot"),
        (waiting("InvalidImageName", "couldn't parse"), [], Cause.CONFIGURATION, Phase.FAILED, "couldn't parse"),
        (
            waiting("CreateContainerConfigError", "container has runAsNonRoot and image will run as root"),
            [],
            Cause.CONFIGURATION,
            Phase.FAILED,
            "run as root",
        ),
        (
            pod(container(state=ended(1, message="Traceback\nValueError: no"), started=False)),
            [],
            Cause.CRASH,
            Phase.STARTING,
            "exit code 1",
        ),
        (
            pod(container(restarts=1, state=Waiting("CrashLoopBackOff", ""), last=ended(139))),
            [],
            Cause.CRASH,
            Phase.FAILED,
            "killed by SIGSEGV",
        ),
        (pod(container(restarts=2, last=ended(1))), [], Cause.CRASH, Phase.FAILED, "exit code 1"),
        (pod(container(state=ended(65))), [], Cause.MODEL_LOAD, Phase.STARTING, "did not load"),
        (
            pod(container(state=ended(66, message='{"message": "gone", "advice": "look"}'))),
            [],
            Cause.MODEL_DOWNLOAD,
            Phase.STARTING,
            "gone",
        ),
        (pod(container(state=ended(137, reason="OOMKilled"))), [], Cause.OUT_OF_MEMORY, Phase.STARTING, "64 MiB"),
        (
            pod(container(state=ended(128, reason="StartError", message='exec: "srv": executable file not found'))),
            [],
            Cause.CRASH,
            Phase.STARTING,
            'cannot be run: exec: "srv"',
        ),
        (
            pod(container(state=ended(137, took=61))),
            [warning("Unhealthy", "Startup probe failed: HTTP probe failed with statuscode: 503")],
            Cause.PROBE,
            Phase.STARTING,
            "in time: HTTP probe failed with statuscode: 503",
        ),
        (pod(container(state=ended(143, took=61))), [], Cause.PROBE, Phase.STARTING, "never answered"),
        (
            pod(container(state=ended(1, took=20))),
            [warning("Unhealthy", "Startup probe failed: connection refused")],
            Cause.CRASH,
            Phase.STARTING,
            "exit code 1",
        ),
        (
            pod(
                container(state=Waiting("PodInitializing", "")),
                init_containers=(container("pull", start_seconds=0, state=ended(1), restarts=1),),
            ),
            [],
            Cause.MODEL_DOWNLOAD,
            Phase.FAILED,
            "exit code 1",
        ),
    ],
)
def test_a_failure_has_one_cause(found: Pod, warnings: list[PodWarning], cause: Cause, phase: Phase, said: str) -> None:
    replica = seen(found, *warnings)
    assert replica.failure is not None
    assert (replica.failure.cause, replica.phase) == (cause, phase)
    assert said in replica.failure.message
    assert replica.failure.advice


def test_a_crash_after_it_was_ready_for_long_is_the_first_again() -> None:
    run = ended(1, took=200)
    found = pod(container(restarts=4, state=Waiting("CrashLoopBackOff", ""), last=run))
    assert seen(found).phase is Phase.FAILED
    ready_till_the_end = replace(found, conditions=(condition("ContainersReady", False, since=210),))
    assert seen(ready_till_the_end).phase is Phase.STARTING


def test_a_replica_that_was_ready_and_then_killed_has_crashed() -> None:
    found = pod(container(state=ended(137, took=200)))
    found = replace(found, conditions=(condition("ContainersReady", False, since=210),))
    assert told(found)[0] is Cause.CRASH


def test_a_replica_that_was_ended_because_it_was_deaf() -> None:
    heard = warning("Unhealthy", "Liveness probe failed: context deadline exceeded")
    unready = condition("ContainersReady", False, since=100)

    def killed(code: int, *, after: float) -> Pod:
        end = ended(code, took=90 + after)
        found = pod(container(last=end, state=Running(at(102 + after)), restarts=1))
        return replace(found, conditions=(unready,))

    assert told(killed(137, after=50), heard)[0] is Cause.PROBE
    assert "context deadline exceeded" in told(killed(137, after=50), heard)[2]
    assert told(killed(0, after=20)) == (Cause.PROBE, Phase.STARTING, "It stopped answering and was ended.")
    assert told(killed(137, after=1), heard)[0] is Cause.CRASH
    assert told(killed(1, after=50), heard)[0] is Cause.CRASH


def test_the_last_lines_are_the_evidence() -> None:
    found = pod(container(state=ended(3, message="one\ntwo")))
    assert seen(found, log=("2026-11-20T21:55:00.000001Z two",)).failure.evidence.log[-1].endswith("1Z two")
    evidence = seen(found).failure.evidence
    assert (evidence.exit_code, evidence.log) == (
        3,
        ("2026-11-20T21:55:15.000000Z one", "2026-11-20T21:55:15.000000Z two"),
    )
    word = pod(container(state=ended(65, message='{"message": "no class", "advice": "write one"}')))
    assert seen(word).failure.evidence.log == ()


def test_a_failure_is_told_with_its_last_lines_or_after_a_moment_without() -> None:
    found = pod(container(state=ended(3), restarts=1))
    at = found.containers[0].state.finished_at
    assert seen(found, log=None, now=at + timedelta(seconds=1)).phase is Phase.STARTING
    assert seen(found, log=(), now=at + timedelta(seconds=1)).phase is Phase.FAILED
    assert seen(found, log=None, now=at + timedelta(seconds=6)).phase is Phase.FAILED
    again = pod(container(state=ended(3), restarts=2))
    assert seen(again, log=None, now=at + timedelta(seconds=1)).phase is Phase.FAILED, "as it was told before"


def test_what_we_are_about_to_make_is_no_failure() -> None:
    found = waiting("CreateContainerConfigError", f'secret "{ROOT}-0123abcd" not found')
    assert seen(found).failure is None
    assert verdict.lacks_ours(found)
    foreign = waiting("CreateContainerConfigError", 'configmap "theirs" not found')
    assert told(foreign)[0] is Cause.CONFIGURATION


def unscheduled(message: str, *, since: float = 299) -> Pod:
    trouble = condition("PodScheduled", False, since=since, reason="Unschedulable", message=message)
    return pod(container(state=None), conditions=(trouble,), phase="Pending", ip="")


def test_no_place_is_a_failure_only_after_a_while() -> None:
    words = "0/3 nodes are available: 3 Insufficient cpu. preemption: 0/3 nodes are available."
    cause, phase, said = told(unscheduled(words))
    assert (cause, phase) == (Cause.UNSCHEDULABLE, Phase.STARTING)
    assert said == "No node has a place for it: 0/3 nodes are available: 3 Insufficient cpu."
    assert told(unscheduled(words, since=200))[1] is Phase.FAILED


def test_a_claim_that_is_not_there_and_one_without_a_volume() -> None:
    missing = told(unscheduled('persistentvolumeclaim "data" not found'))
    assert missing[:2] == (Cause.CONFIGURATION, Phase.FAILED)
    assert '"data" is not there' in missing[2]
    unbound = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims."
    assert told(unscheduled(unbound))[:2] == (Cause.CONFIGURATION, Phase.STARTING)
    assert told(unscheduled(unbound, since=0))[1] is Phase.FAILED


def test_a_volume_that_cannot_be_mounted_is_said_in_the_kubelets_words() -> None:
    creating = waiting("ContainerCreating")
    trouble = warning("FailedMount", "mount.nfs: access denied by server", count=1)
    assert told(creating, trouble)[:2] == (Cause.CONFIGURATION, Phase.STARTING)
    cause, phase, said = told(creating, replace(trouble, count=3))
    assert (cause, phase) == (Cause.CONFIGURATION, Phase.FAILED)
    assert "access denied by server" in said


def test_an_evicted_pod_says_why() -> None:
    found = pod(phase="Failed", reason="Evicted", message="The node was low on resource: memory.")
    assert told(found) == (
        Cause.OUT_OF_MEMORY,
        Phase.ENDED,
        "Its node has ended it (Evicted): The node was low on resource: memory.",
    )


def test_a_pod_that_its_node_had_no_room_for_has_not_used_too_much() -> None:
    words = "Pod was rejected: Node didn't have enough resource: memory, requested: 1, used: 2, capacity: 2"
    assert told(pod(phase="Failed", reason="OutOfmemory", message=words))[0] is Cause.CRASH


def test_a_shared_claim_that_is_missing_is_ours_to_make() -> None:
    assert verdict.lacks_ours(unscheduled('persistentvolumeclaim "moorage-0a1b2c3d4e" not found'))
    assert not verdict.lacks_ours(unscheduled('persistentvolumeclaim "lookup" not found'))


def test_what_is_not_made_at_all_shows_under_the_deployments_name() -> None:
    words = 'pods "x" is forbidden: exceeded quota: gpus, requested: cpu=1, used: cpu=4, limited: cpu=4'
    refused = Condition("ReplicaFailure", "True", "FailedCreate", words, NOW)

    def look(of: Root) -> list[Replica]:
        return observation.replicas(
            [], [of], warnings=lambda _: [], log=lambda _: [], usage={}, now=NOW, patience=PATIENCE
        )

    (shown,) = look(root(conditions=(refused,)))
    assert (shown.id, shown.phase, shown.template_digest, shown.port) == (ROOT, Phase.FAILED, "digest", 0)
    assert shown.failure is not None
    assert shown.failure.cause is Cause.QUOTA
    assert shown.failure.message.startswith("The cluster refuses it: exceeded quota: gpus")
    assert look(root(conditions=(refused,), replicas=0)) == []
    young = replace(
        refused, message='error looking up service account risk/default: serviceaccount "default" not found'
    )
    assert look(root(conditions=(young,))) == []
    other = replace(refused, message='pods "x" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot')
    assert look(root(conditions=(other,)))[0].failure.cause is Cause.CONFIGURATION
