"""Renders rows as the API's document. Pure."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast

from services.deployer.deployments.diff import masked
from services.deployer.deployments.domain import Spec, VersionSpec, model_reference
from shared.schema import Deployment, Route

__all__ = ["container_view", "document", "is_enforced", "state_id", "version_view"]

_CONTAINER: dict[str, Any] = {
    "image": None,
    "image_pull_secret": None,
    "config_files": {},
    "volumes": [],
    "service": None,
}


def document(row: Deployment, route: Route | None, *, public_url: str) -> dict[str, Any]:
    """As `DeploymentView` describes it, ready for JSON. A page has 200 of them, so no model checks what we make."""
    spec = cast(Spec, row.spec)
    return {
        "id": row.id,
        "uid": str(row.uid),
        "group": row.group_id,
        "name": spec["name"],
        "description": spec["description"],
        "metadata": spec["metadata"],
        "stage": spec["stage"],
        "access": spec["access"],
        "versions": [version_view(version) for version in spec["versions"]],
        "traffic": spec["traffic"],
        "progress_deadline": spec["progress_deadline"],
        "stopped": row.stopped,
        "generation": row.generation,
        "revision": row.revision,
        "message": row.message,
        "endpoint": f"{public_url}/deployment/{row.id}/",
        "created_at": _rfc3339(row.created_at),
        "created_by": row.created_by,
        "updated_at": _rfc3339(row.updated_at),
        "updated_by": row.updated_by,
        "status": {
            "phase": row.phase,
            "observed_generation": row.observed_generation,
            "conditions": row.conditions,
            "versions": _versions(spec, row),
            "traffic": {"weights": route.weights if route else {}, "enforced": is_enforced(row, route)},
        },
    }


def version_view(version: VersionSpec) -> dict[str, Any]:
    """As `LiveVersionView` describes it."""
    shown = masked(version)
    return {
        "number": version["number"],
        "model": model_reference(version),
        "runtime": version["runtime"],
        "instance_type": version["instance_type"],
        "replicas": {"min": version["replicas"]["min"], "max": version["replicas"]["max"]},
        "env": shown["env"],
        **container_view(shown),
    }


def container_view(masked_version: Mapping[str, Any]) -> dict[str, Any]:
    """What is said of its container, also where nothing is."""
    return {name: masked_version.get(name, default) for name, default in _CONTAINER.items()}


def is_enforced(row: Deployment, route: Route | None) -> bool:
    """Whether Envoy routes this generation, split as wanted."""
    if route is None or route.generation < row.generation or route.rejected is not None:
        return False
    return row.stopped or _shares(route.weights) == _shares(row.spec["traffic"]["weights"])


def state_id(row: Deployment, route: Route | None) -> str:
    """Names what a document shows: two are the same if their ids are. Each part only rises."""
    enforced = _micros(route.enforced_at) if route else 0
    return f"{row.generation}-{_micros(row.status_at)}-{enforced}"


def _versions(spec: Spec, row: Deployment) -> list[dict[str, Any]]:
    """The reconciler's word on each version that it has seen; a new one is about to be."""
    seen = {status["number"]: status for status in row.version_status}
    return [
        _shown(seen[version["number"]])
        if version["number"] in seen
        else {
            "number": version["number"],
            "phase": "Stopped" if row.stopped else "Deploying",
            "ready": 0,
            "wanted": 0 if row.stopped else version["replicas"]["min"],
            "model": version["model"],
            "digest": version["digest"],
            "failure": None,
            "addresses": [],
        }
        for version in spec["versions"]
    ]


def _shown(status: dict[str, Any]) -> dict[str, Any]:
    # A release before has noted no addresses.
    return {"addresses": [], **{name: value for name, value in status.items() if name != "template"}}


def _rfc3339(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _shares(weights: Mapping[str, int]) -> dict[str, int]:
    return {version: weight for version, weight in weights.items() if weight}


def _micros(at: datetime) -> int:
    return int(at.timestamp() * 1_000_000)
