"""What our objects are called and how they are found again. Pure.

A name says what it is to people and never comes twice: it carries the deployment's uid, and a content's digest where
two contents have to lie side by side. Nothing that may change is in a selector.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from uuid import UUID

from services.deployer.platforms.platform import LabelledClaim, Nfs, PullSecret, Workload

MANAGER = "moorage"
"""The field manager of what we apply, and the value of `MANAGED_BY`."""

MANAGED_BY = "app.kubernetes.io/managed-by"
UID = "moorage.io/uid"
VERSION = "moorage.io/version"
DEPLOYMENT = "moorage.io/deployment"
GROUP = "moorage.io/group"
INSTALLATION = "moorage.io/installation"
"""Whose it is where several installations share a cluster: each ends what it finds of its own and does not know."""

TEMPLATE = "moorage.io/template"
"""An annotation on pods: the template's digest."""
CONTENT = "moorage.io/content"
"""A label of a Secret: the hash of its content that its name ends with."""
REVISION = "moorage.io/revision"
"""An annotation on pods: a hash of all that it takes a fresh pod to change, our own options included."""
DRAINING = "moorage.io/draining"
"""An annotation on pods: since when it is to go."""
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
IN_SERVICE = "moorage.io/in-service"
"""The readiness gate, a pod condition: the data plane routes to it."""

VOLUME = "moorage.io/volume"
"""On an NFS volume and its claim: the name in the template."""

POD_SECURITY = "pod-security.kubernetes.io/enforce"

CONTAINER = "replica"
INIT_CONTAINER = "pull"


def labels(workload: Workload, *, installation: str) -> dict[str, str]:
    """Of every object of a version."""
    return {MANAGED_BY: MANAGER, INSTALLATION: installation, DEPLOYMENT: workload.id, **matching(workload)}


def matching(workload: Workload) -> dict[str, str]:
    """The labels by which a version's pods are its own."""
    return {UID: str(workload.uid), VERSION: str(workload.version)}


OURS = f"{MANAGED_BY}={MANAGER}"
"""A label selector for everything of ours, whichever installation's."""


def owned_by(installation: str) -> str:
    """A label selector for everything of one installation."""
    return f"{OURS},{INSTALLATION}={installation}"


def selector(uid: UUID, version: int | None = None, *, but: Collection[str] = ()) -> str:
    """A label selector for the objects of a deployment; `but` leaves out those with these hashes of their content."""
    terms = [OURS, f"{UID}={uid}"]
    if version is not None:
        terms.append(f"{VERSION}={version}")
    if but:
        terms.append(f"{CONTENT} notin ({','.join(sorted(but))})")
    return ",".join(terms)


# Objects. The longest root is 40 + 9 + 9 = 58 characters: as much as Kubernetes keeps of it in a pod's name.


def root(workload: Workload) -> str:
    """The Deployment, and what there is only one of beside it: its Service, its HorizontalPodAutoscaler."""
    return f"{workload.id}-v{workload.version}-{workload.uid.hex[:8]}"


# Secrets and ConfigMaps: one for each content, since pods of two templates run side by side in a rollout, and none anew
# for a template that differs elsewhere. A hash that a password has a part in is salted.


def environment(workload: Workload, told: Mapping[str, str]) -> str:
    """The Secret of what every replica is told, which our own options have a part in."""
    salt = workload.template.nonce if workload.template.secrets else ""
    return f"{root(workload)}-env-{_hashed(sorted(told.items()), salt)}"


def pull_secret(workload: Workload, given: PullSecret) -> str:
    login = (given.server, given.username, given.password)
    return f"{root(workload)}-pull-{_hashed(login, workload.template.nonce)}"


def files(workload: Workload) -> str:
    """The ConfigMap of its files."""
    return f"{root(workload)}-files-{_hashed(sorted(workload.template.files.items()))}"


def content(name: str) -> str:
    """The hash in such a name."""
    return name.rpartition("-")[2]


def nfs_volume(workload: Workload, name: str, source: Nfs) -> str:
    """The PersistentVolume and its claim. Neither can be changed, so another folder makes another name.

    It begins like no claim that a user may name: only the deployment that was given the folder mounts it.
    """
    return f"{MANAGER}-{root(workload)}-{name}-{_hashed(source.server, source.path, source.storage)}"


def labelled_claim(source: LabelledClaim) -> str:
    """One claim in the namespace for all who ask for the same: a volume is bound to one claim only."""
    return f"{MANAGER}-{_hashed(sorted(source.labels.items()), source.storage)}"


def _hashed(*content: object) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:10]
