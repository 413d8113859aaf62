"""Small objects of ours, as they are sent to the API server. Their pods never run."""

from typing import Any
from uuid import UUID

from services.deployer.platforms.kubernetes import names

Manifest = dict[str, Any]


def labels(uid: UUID) -> dict[str, str]:
    return {names.MANAGED_BY: names.MANAGER, names.UID: str(uid), names.VERSION: "1"}


def name(uid: UUID) -> str:
    return f"iris-v1-{uid.hex[:8]}"


def deployment(uid: UUID, *, namespace: str = "default", replicas: int | None = 1, image: str = "none") -> Manifest:
    spec: Manifest = {
        "selector": {"matchLabels": {names.UID: str(uid), names.VERSION: "1"}},
        "template": {"metadata": {"labels": labels(uid)}, "spec": pod_spec(image)},
    }
    if replicas is not None:
        spec["replicas"] = replicas
    metadata = {"name": name(uid), "namespace": namespace, "labels": labels(uid)}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


def config_map(uid: UUID, *, namespace: str = "default", **data: str) -> Manifest:
    metadata = {"name": name(uid), "namespace": namespace, "labels": labels(uid)}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def pod(uid: UUID, suffix: str, *, namespace: str = "default", scheduler: str = "nobody") -> Manifest:
    """By default no scheduler sees it."""
    metadata = {"name": f"{name(uid)}-{suffix}", "namespace": namespace, "labels": labels(uid)}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": pod_spec("none") | {"schedulerName": scheduler, "terminationGracePeriodSeconds": 0},
    }


def pod_spec(image: str) -> Manifest:
    return {"automountServiceAccountToken": False, "containers": [{"name": "replica", "image": image}]}
