"""From the objects that the API server sends to what is kept of them, and to the fingerprint that shows drift. Pure.

Strings that many objects share (names of containers, reasons, labels) are interned: thousands of them are kept.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from hashlib import blake2b
from sys import intern
from typing import Any
from uuid import UUID

import orjson

from services.deployer.platforms.kubernetes import names
from services.deployer.platforms.kubernetes.kinds import Object
from services.deployer.platforms.kubernetes.objects import (
    Condition,
    Container,
    Pod,
    PodWarning,
    Resource,
    Root,
    Running,
    Terminated,
    Waiting,
)

_OURS = "moorage.io/"
_NOTHING: Mapping[str, str] = {}

_OUR_POD = re.compile(r".+-v\d+-[0-9a-f]{8}")  # see `names.root`: a pod's name begins with it

_OTHERS_WRITE = {"PersistentVolumeClaim": "volumeName", "PersistentVolume": "claimRef"}
"""The field of a kind's spec that a controller fills in after we have applied it."""

_POD_CONDITIONS: Mapping[str, str | None] = {
    "PodScheduled": None,
    "ContainersReady": None,
    "Ready": None,
    names.IN_SERVICE: None,
}


def trim_resource(found: Object) -> Resource | None:
    """None when it does not say whose it is, as a namesake of somebody else's may not."""
    common = _common(found)
    if common is None:
        return None
    released = (found.get("status") or {}).get("phase") == "Released"
    return Resource(fingerprint=fingerprint(found), addresses=_addresses(found), released=released, **common)


def trim_root(found: Object) -> Root | None:
    """Likewise of a Deployment."""
    common = _common(found)
    if common is None:
        return None
    spec, status = found.get("spec") or {}, found.get("status") or {}
    return Root(
        fingerprint=fingerprint(found),
        replicas=int(spec.get("replicas", 1)),
        available=int(status.get("availableReplicas", 0)),
        max_surge=_rolling(spec).get("maxSurge", "25%"),
        template_annotations=_ours(((spec.get("template") or {}).get("metadata") or {}).get("annotations")),
        generation=int(found["metadata"].get("generation", 0)),
        observed_generation=int(status.get("observedGeneration", 0)),
        conditions=_conditions(status, {"ReplicaFailure": "True", "Progressing": "False"}),
        **common,
    )


def trim_pod(found: Object) -> Pod | None:
    """Likewise of a pod."""
    common = _common(found)
    if common is None:
        return None
    spec, status = found.get("spec") or {}, found.get("status") or {}
    return Pod(
        phase=intern(status.get("phase") or "Pending"),
        reason=intern(status.get("reason") or ""),
        message=status.get("message") or "",
        ip=status.get("podIP") or "",
        conditions=_conditions(status, _POD_CONDITIONS),
        init_containers=_containers(spec.get("initContainers"), status.get("initContainerStatuses")),
        containers=_containers(spec.get("containers"), status.get("containerStatuses")),
        **common,
    )


def trim_warning(found: Object) -> PodWarning | None:
    """None when it is about somebody else's pod, going by its name: we may hear of the event before the pod."""
    about = found.get("involvedObject") or {}
    if _OUR_POD.match(about.get("name") or "") is None:
        return None
    metadata, series = found["metadata"], found.get("series") or {}
    return PodWarning(
        uid=metadata["uid"],
        pod=about.get("uid") or "",
        reason=intern(found.get("reason") or ""),
        message=found.get("message") or "",
        count=int(series.get("count") or found.get("count") or 1),
        resource_version=int(metadata["resourceVersion"]),
    )


def fingerprint(found: Object) -> str:
    """A hash of what we may have applied to it: the same before and after whatever others do to its other parts."""
    metadata, kind, spec = found["metadata"], found.get("kind"), found.get("spec") or {}
    if kind == "Deployment":
        strategy = {**(spec.get("strategy") or {}), "rollingUpdate": {**_rolling(spec), "maxSurge": None}}
        spec = {**spec, "replicas": None, "strategy": strategy}
    elif theirs := _OTHERS_WRITE.get(kind or ""):
        spec = {name: value for name, value in spec.items() if name != theirs}
    content = (
        spec,
        found.get("data"),
        found.get("binaryData"),
        _ours(metadata.get("labels")),
        _ours(metadata.get("annotations")),
        [owner["uid"] for owner in metadata.get("ownerReferences") or ()],
    )
    return blake2b(orjson.dumps(content, option=orjson.OPT_SORT_KEYS), digest_size=8).hexdigest()


def _rolling(spec: Object) -> Object:
    rolling: Object = (spec.get("strategy") or {}).get("rollingUpdate") or {}
    return rolling


def _common(found: Object) -> dict[str, Any] | None:
    metadata = found["metadata"]
    labels = metadata.get("labels") or {}
    try:
        deployment, version = UUID(labels[names.UID]), int(labels[names.VERSION])
    except (LookupError, ValueError):
        return None
    return {
        "uid": metadata["uid"],
        "name": metadata["name"],
        "namespace": intern(metadata.get("namespace") or ""),
        "deployment": deployment,
        "version": version,
        "labels": _ours(labels),
        "annotations": _ours(metadata.get("annotations")),
        "created_at": _time(metadata["creationTimestamp"]),
        "deleting_since": _time(metadata.get("deletionTimestamp")),
        "resource_version": int(metadata["resourceVersion"]),
    }


def _addresses(found: Object) -> tuple[str, ...]:
    """Where a Service is reached, from outside the cluster if it is to be: as soon as it has been given an address."""
    spec = found.get("spec") or {}
    if found.get("kind") != "Service" or not spec.get("ports"):
        return ()
    hosts = list(spec.get("externalIPs") or ())
    if spec.get("type") == "LoadBalancer":
        ingress = ((found.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
        hosts += [each.get("hostname") or each["ip"] for each in ingress]
    elif not hosts:
        hosts = [f"{found['metadata']['name']}.{found['metadata']['namespace']}.svc"]
    return tuple(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host in hosts for port in _ports(spec))


def _ports(spec: Mapping[str, Any]) -> list[int]:
    return [int(each["port"]) for each in spec["ports"]]


def _ours(found: Mapping[str, str] | None) -> Mapping[str, str]:
    kept = {intern(name): intern(value) for name, value in (found or {}).items() if name.startswith(_OURS)}
    return kept or _NOTHING


def _conditions(status: Object, wanted: Mapping[str, str | None]) -> tuple[Condition, ...]:
    """Those of the wanted types, and where a status is given, only while they have it."""
    return tuple(
        Condition(
            intern(each["type"]),
            intern(each["status"]),
            intern(each.get("reason") or ""),
            each.get("message") or "",
            _time(each.get("lastTransitionTime")),
        )
        for each in status.get("conditions") or ()
        if each["type"] in wanted and wanted[each["type"]] in (None, each["status"])
    )


def _containers(wanted: Iterable[Object] | None, statuses: Iterable[Object] | None) -> tuple[Container, ...]:
    found = {each["name"]: each for each in statuses or ()}
    return tuple(_container(each, found.get(each["name"]) or {}) for each in wanted or ())


def _container(wanted: Object, status: Object) -> Container:
    limits = (wanted.get("resources") or {}).get("limits") or {}
    probe = wanted.get("startupProbe") or {}
    return Container(
        name=intern(wanted["name"]),
        image=intern(wanted.get("image") or ""),
        memory_limit=intern(str(limits.get("memory") or "")),
        start_seconds=int(probe.get("periodSeconds", 0)) * int(probe.get("failureThreshold", 0)),
        ready=bool(status.get("ready")),
        started=bool(status.get("started")),
        restarts=int(status.get("restartCount", 0)),
        state=_state(status.get("state") or {}),
        last=_terminated((status.get("lastState") or {}).get("terminated")),
    )


def _state(found: Object) -> Waiting | Running | Terminated | None:
    if (waiting := found.get("waiting")) is not None:
        return Waiting(intern(waiting.get("reason") or ""), waiting.get("message") or "")
    if (running := found.get("running")) is not None:
        return Running(_time(running.get("startedAt")))
    return _terminated(found.get("terminated"))


def _terminated(found: Object | None) -> Terminated | None:
    if found is None:
        return None
    return Terminated(
        exit_code=int(found.get("exitCode", 0)),
        reason=intern(found.get("reason") or ""),
        message=found.get("message") or "",
        started_at=_time(found.get("startedAt")),
        finished_at=_time(found.get("finishedAt")),
    )


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
