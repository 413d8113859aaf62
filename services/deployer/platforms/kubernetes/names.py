"""What our objects are called and how they are found again. Pure.

A name says what it is to people and never comes twice: it carries the deployment's uid, and a content's digest where
two contents have to lie side by side. Nothing that may change is in a selector.
"""

import hashlib
import json
from collections.abc import Mapping
from uuid import UUID

from services.deployer.platforms.platform import LabelledClaim, Nfs, Workload

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
"""On a pod, an annotation: its template's digest. On a Secret or ConfigMap, a label: the digest's first 8 digits."""
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


def selector(uid: UUID, version: int | None = None, *, not_template: str | None = None) -> str:
    """A label selector for the objects of a deployment; `not_template` leaves out those of the template's digest."""
    terms = [OURS, f"{UID}={uid}"]
    if version is not None:
        terms.append(f"{VERSION}={version}")
    if not_template is not None:
        terms += [TEMPLATE, f"{TEMPLATE}!={short(not_template)}"]
    return ",".join(terms)


def short(digest: str) -> str:
    return digest[:8]


# Objects. The longest root is 40 + 9 + 9 = 58 characters: as much as Kubernetes keeps of it in a pod's name.


def root(workload: Workload) -> str:
    """The Deployment, and what there is only one of beside it: its Service, its HorizontalPodAutoscaler."""
    return f"{workload.id}-v{workload.version}-{workload.uid.hex[:8]}"


def config(workload: Workload) -> str:
    """The Secret and the ConfigMap: each template's own, since pods of two templates run side by side in a rollout."""
    return f"{root(workload)}-{short(workload.template.digest)}"


def environment(workload: Workload, facts: Mapping[str, str]) -> str:
    """The ConfigMap of what every replica is told, which our own options have a part in."""
    return f"{root(workload)}-env-{_hashed(sorted(facts.items()))}"


def pull_secret(workload: Workload) -> str:
    return f"{config(workload)}-pull"


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
