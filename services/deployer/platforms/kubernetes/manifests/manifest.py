"""The envelope of an object for server-side apply. What is inside (`spec`, `data`) is as the API's reference has it.

Plain dictionaries: the client library's model classes copy a whole configuration for each value they hold, which would
cost the deployer more than all its other work.
"""

from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict

from services.deployer.platforms.kubernetes import names
from services.deployer.platforms.kubernetes.options import Options
from services.deployer.platforms.platform import Workload

JSON = dict[str, Any]
"""A part of an object, as Kubernetes' API reference describes it."""


class OwnerReference(TypedDict):
    apiVersion: str
    kind: str
    name: str
    uid: str
    blockOwnerDeletion: NotRequired[bool]


class Metadata(TypedDict):
    name: str
    namespace: NotRequired[str]
    labels: dict[str, str]
    annotations: NotRequired[dict[str, str]]
    ownerReferences: NotRequired[list[OwnerReference]]


class Manifest(TypedDict):
    apiVersion: str
    kind: str
    metadata: Metadata
    spec: NotRequired[JSON]
    data: NotRequired[dict[str, str]]
    type: NotRequired[str]
    immutable: NotRequired[bool]


def metadata(
    workload: Workload, options: Options, *, name: str, namespace: str | None, labels: Mapping[str, str] | None = None
) -> Metadata:
    """Of an object of this version; `namespace` is None for one that is in no namespace."""
    made = {**names.labels(workload, installation=options.installation), **(labels or {})}
    if namespace is None:
        return {"name": name, "labels": made}
    return {"name": name, "namespace": namespace, "labels": made}


def dependent(manifest: Manifest, *, of: Manifest, uid: str) -> Manifest:
    """The same, to be removed together with its owner, whose uid the API server has given; that waits for it."""
    owner: OwnerReference = {
        "apiVersion": of["apiVersion"],
        "kind": of["kind"],
        "name": of["metadata"]["name"],
        "uid": uid,
        "blockOwnerDeletion": True,
    }
    return {**manifest, "metadata": {**manifest["metadata"], "ownerReferences": [owner]}}
