"""What is kept of an object, and when two states of it are the same to us."""

import copy
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.deployer.platforms.kubernetes import names, trimming
from services.deployer.platforms.kubernetes.objects import Condition, Running, Terminated, Waiting
from services.deployer.platforms.platform import Template, Workload
from tests.deployer.platforms.kubernetes import samples

UID = UUID("0b2f8a4e-6f4a-4c1e-9d9e-0d5a3f1f2a77")
NOW = "2026-11-20T22:00:00Z"
THEN = datetime(2026, 11, 20, 22, tzinfo=UTC)


def as_found(manifest: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    found = copy.deepcopy(manifest)
    found["metadata"] |= {"uid": str(uuid4()), "creationTimestamp": NOW, "resourceVersion": "7", "generation": 2}
    found["metadata"] |= metadata
    return found


def pod() -> dict[str, Any]:
    found = as_found(samples.pod(UID, "x"), annotations={"moorage.io/draining": NOW, "other/thing": "1"})
    container = found["spec"]["containers"][0]
    container |= {"resources": {"limits": {"memory": "64Mi"}}}
    container |= {"startupProbe": {"periodSeconds": 1, "failureThreshold": 600}}
    found["spec"] |= {"initContainers": [{"name": "pull", "image": "puller"}], "nodeName": "n1"}
    killed = {"exitCode": 137, "reason": "OOMKilled", "startedAt": NOW, "finishedAt": NOW, "containerID": "c"}
    found["status"] = {
        "phase": "Running",
        "podIP": "10.244.0.7",
        "startTime": NOW,
        "conditions": [
            {"type": "Ready", "status": "False", "reason": "ContainersNotReady", "lastTransitionTime": NOW},
            {"type": "SomeoneElses", "status": "True", "lastTransitionTime": NOW},
        ],
        "initContainerStatuses": [{"name": "pull", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}],
        "containerStatuses": [
            {
                "name": "replica",
                "ready": False,
                "started": True,
                "restartCount": 3,
                "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}},
                "lastState": {"terminated": killed},
            }
        ],
    }
    return found


def test_of_a_pod_is_kept_what_decides_about_it() -> None:
    row = trimming.trim_pod(pod())
    assert row is not None
    assert (row.name, row.namespace, row.deployment, row.version) == ("iris-v1-0b2f8a4e-x", "default", UID, 1)
    assert (row.ip, row.phase, row.created_at) == ("10.244.0.7", "Running", THEN)
    assert row.annotations == {"moorage.io/draining": NOW}
    assert row.condition("Ready") == Condition("Ready", "False", "ContainersNotReady", "", THEN)
    assert row.condition("SomeoneElses") is None
    assert not row.holds("Ready")
    replica, pull = row.container("replica"), row.container("pull")
    assert replica is not None
    assert pull is not None
    assert (replica.restarts, replica.memory_limit, replica.start_seconds) == (3, "64Mi", 600)
    assert replica.state == Waiting("CrashLoopBackOff", "back-off 10s")
    assert replica.last == Terminated(137, "OOMKilled", "", THEN, THEN)
    assert pull.state == Terminated(0, "Completed", "", None, None)


def test_a_pod_that_no_kubelet_has_seen_has_containers_without_a_state() -> None:
    row = trimming.trim_pod(as_found(samples.pod(UID, "x")))
    assert row is not None
    assert [(each.name, each.state, each.restarts) for each in row.containers] == [("replica", None, 0)]


@pytest.mark.parametrize("change", ["heartbeat", "managed fields", "another's annotation", "another's condition"])
def test_what_nobody_reads_makes_no_difference(change: str) -> None:
    before, after = pod(), pod()
    after["metadata"] |= {"uid": before["metadata"]["uid"], "resourceVersion": "8"}
    if change == "heartbeat":
        after["status"]["conditions"][1]["lastProbeTime"] = NOW
    elif change == "managed fields":
        after["metadata"]["managedFields"] = [{"manager": "kubelet"}]
    elif change == "another's annotation":
        after["metadata"]["annotations"]["other/thing"] = "2"
    else:
        after["status"]["conditions"][1]["status"] = "False"
    assert trimming.trim_pod(before) == trimming.trim_pod(after)
    after["status"]["containerStatuses"][0]["state"] = {"running": {"startedAt": NOW}}
    changed = trimming.trim_pod(after)
    assert changed is not None
    assert changed != trimming.trim_pod(before)
    assert changed.containers[0].state == Running(THEN)


def test_whose_it_is_has_to_be_said() -> None:
    for labels in ({}, {names.UID: "x", names.VERSION: "1"}, {names.UID: str(UID)}):
        assert trimming.trim_resource(as_found(samples.config_map(UID), labels=labels)) is None


INGRESS = [{"ip": "192.0.2.1"}, {"hostname": "lb.example"}]


@pytest.mark.parametrize(
    ("spec", "ingress", "addresses"),
    [
        ({"type": "ClusterIP"}, [], ["iris.default.svc:80"]),
        (
            {"type": "ClusterIP", "externalIPs": ["203.0.113.7", "2001:db8::1"]},
            [],
            ["203.0.113.7:80", "[2001:db8::1]:80"],
        ),
        ({"type": "LoadBalancer"}, [], []),
        ({"type": "LoadBalancer"}, INGRESS, ["192.0.2.1:80", "lb.example:80"]),
        ({"type": "LoadBalancer", "externalIPs": ["203.0.113.7"]}, INGRESS[:1], ["203.0.113.7:80", "192.0.2.1:80"]),
    ],
)
def test_where_a_service_is_reached(spec: dict[str, Any], ingress: list[Any], addresses: list[str]) -> None:
    found = as_found(samples.config_map(UID))
    found |= {
        "kind": "Service",
        "spec": {**spec, "ports": [{"name": "http", "port": 80}]},
        "status": {"loadBalancer": {"ingress": ingress} if ingress else {}},
    }
    found["metadata"] |= {"name": "iris", "namespace": "default"}
    row = trimming.trim_resource(found)
    assert row is not None
    assert list(row.addresses) == addresses


def test_of_a_deployment_only_trouble_is_kept() -> None:
    found = as_found(samples.deployment(UID, replicas=3))
    conditions = [
        {"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated"},
        {"type": "Available", "status": "False"},
        {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota"},
    ]
    found["status"] = {"observedGeneration": 1, "availableReplicas": 2, "conditions": conditions}
    found["spec"]["template"]["metadata"]["annotations"] = {names.REVISION: "abc"}
    row = trimming.trim_root(found)
    assert row is not None
    assert (row.replicas, row.available, row.generation, row.observed_generation) == (3, 2, 2, 1)
    assert row.conditions == (Condition("ReplicaFailure", "True", "FailedCreate", "exceeded quota", None),)
    assert row.template_annotations == {names.REVISION: "abc"}


def test_fingerprint_is_of_what_we_apply() -> None:
    found = as_found(samples.deployment(UID), ownerReferences=[{"uid": "o"}])
    before = trimming.fingerprint(found)

    def after(change: Any) -> str:
        changed = copy.deepcopy(found)
        change(changed)
        return trimming.fingerprint(changed)

    for theirs in (
        lambda it: it.update(status={"replicas": 1}),
        lambda it: it["spec"].update(replicas=7),
        lambda it: it["spec"].update(strategy={"rollingUpdate": {"maxSurge": 1}}),
        lambda it: it["metadata"].update(resourceVersion="9", generation=9, managedFields=[{}]),
        lambda it: it["metadata"].update(annotations={"deployment.kubernetes.io/revision": "3"}),
        lambda it: it["metadata"]["labels"].update(other="x"),
    ):
        assert after(theirs) == before
    ours = [
        lambda it: it["spec"]["template"]["spec"]["containers"][0].update(image="other"),
        lambda it: it["metadata"]["labels"].update({names.UID: "x"}),
        lambda it: it["metadata"].update(annotations={"moorage.io/group": "x"}),
        lambda it: it["metadata"].pop("ownerReferences"),
    ]
    assert len({before, *map(after, ours)}) == len(ours) + 1


@pytest.mark.parametrize(("kind", "name"), [("PersistentVolumeClaim", "volumeName"), ("PersistentVolume", "claimRef")])
def test_what_the_binder_fills_in_is_no_drift(kind: str, name: str) -> None:
    found = as_found(samples.config_map(UID)) | {"kind": kind, "spec": {"storage": 1}}
    bound = found | {"spec": {"storage": 1, name: "x"}}
    assert trimming.fingerprint(found) == trimming.fingerprint(bound)


def test_warnings_are_ours_by_the_name_of_their_pod() -> None:
    def event(name: str) -> dict[str, Any]:
        return {
            "metadata": {"uid": "e", "resourceVersion": "3", "creationTimestamp": NOW},
            "involvedObject": {"kind": "Pod", "name": name, "uid": "p"},
            "reason": "Failed",
            "message": "no such image",
            "count": 4,
            "lastTimestamp": NOW,
        }

    long = Workload(UID, "a" * 40, "g", 12345678, Template(runtime="custom", command=()), 1)
    for name in (f"{names.root(long)}-6d4cf56db6-x2x"[:58] + "abcde", f"{samples.name(UID)}-7f549fcd5d-4s628"):
        row = trimming.trim_warning(event(name))
        assert row is not None
        assert (row.belongs_to, row.reason, row.message, row.count) == ("p", "Failed", "no such image", 4)
        again = event(name)
        again |= {"count": 5, "lastTimestamp": "2026-11-20T22:05:00Z"}
        assert trimming.trim_warning(again) == row
    assert trimming.trim_warning(event("coredns-5d78c9869d-abcde")) is None
