"""What has been applied of one version, as of this process: enough to see that nothing has to be done. No I/O.

The API server's answer to what we apply has a fingerprint; as long as the watch shows the same one, the object is as we
have made it. After a restart nothing is known to be so: everything is applied once more when its turn comes, which
changes nothing where nothing differs. Of Secrets, which nobody lets us read, only that they have been applied is known.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from uuid import UUID

from services.deployer.platforms.kubernetes import names
from services.deployer.platforms.kubernetes.kinds import (
    AUTOSCALER,
    CLAIM,
    CONFIG_MAP,
    SECRET,
    SERVICE,
    VOLUME,
    Kind,
    Object,
    kind_of,
)
from services.deployer.platforms.kubernetes.manifests import Manifest
from services.deployer.platforms.kubernetes.objects import Resource, Root
from services.deployer.platforms.kubernetes.store import Store
from services.deployer.platforms.kubernetes.trimming import fingerprint
from services.deployer.platforms.platform import Exposure, Workload

RESOURCES = (CONFIG_MAP, SERVICE, AUTOSCALER, CLAIM, VOLUME)
"""The kinds beside the Deployment that we may read."""

Prints = Mapping[tuple[str, str], str]
"""Fingerprints of objects by kind and name."""


@dataclass(frozen=True)
class Shape:
    """All of a workload that its objects are made from, but for the number of its replicas where that is given."""

    id: str
    group: str
    template: str
    exposure: Exposure | None
    scaled: tuple[int, int] | None

    @classmethod
    def of(cls, workload: Workload) -> "Shape":
        return cls(
            id=workload.id,
            group=workload.group,
            template=workload.template.digest,
            exposure=workload.exposure,
            scaled=(workload.replicas, workload.most) if is_scaled(workload) else None,
        )


def is_scaled(workload: Workload) -> bool:
    """Whether the number of its replicas is an autoscaler's to say."""
    return 0 < workload.replicas < workload.most


@dataclass(frozen=True)
class Applied:
    """What was made of a shape, and what the API server said of it."""

    shape: Shape
    revision: str
    root: tuple[str, str]
    """The Deployment's uid and fingerprint."""
    prints: Prints
    """Of the others."""

    @classmethod
    def noted(cls, shape: Shape, revision: str, root: Object, prints: Prints) -> "Applied":
        identity = (root["metadata"]["uid"], fingerprint(root))
        return cls(shape=shape, revision=revision, root=identity, prints=prints)

    def stands(self, root: Root, store: Store) -> bool:
        """Whether all of it is there as it was made, as far as we may see."""
        if self.root != (root.uid, root.fingerprint):
            return False
        there = _there(root, store)
        return all(there.get(key) == made for key, made in self.prints.items() if key[0] != SECRET.name)

    def content(self, manifest: Manifest, root: Root, store: Store) -> Prints:
        """The print of a Secret or ConfigMap that need not be applied again: it has its name from its content, and
        stands, as far as anybody can tell. None of anything else.

        Nobody lets us see Secrets. But where the Deployment is as we left it no other deployer has been at work, and
        the environment's is missed by any pod that lacks it; one for an image's registry is not.
        """
        key = (manifest["kind"], manifest["metadata"]["name"])
        made = self.prints.get(key)
        if made is None or self.root != (root.uid, root.fingerprint):
            return {}
        stands = manifest.get("type") == "Opaque" or _there(root, store).get(key) == made
        return {key: made} if stands and key[0] in (SECRET.name, CONFIG_MAP.name) else {}

    def superseded(self, root: Root, store: Store) -> list[tuple[Kind, Resource]]:
        """What is there of the version and does not belong to this shape. Secrets nobody lets us see."""
        return [
            (kind, each)
            for kind, each in resources(store, root.deployment, root.version)
            if (kind.name, each.name) not in self.prints
        ]

    @property
    def secrets(self) -> set[str]:
        """The hashes of their contents."""
        return {names.content(name) for kind, name in self.prints if kind == SECRET.name}


def prints(applied: Iterable[Object]) -> Prints:
    """Of what the API server has answered. A shared claim is nobody's."""
    return {
        (kind_of(each).name, each["metadata"]["name"]): fingerprint(each)
        for each in applied
        if names.UID in each["metadata"]["labels"]
    }


def _there(root: Root, store: Store) -> Prints:
    found = resources(store, root.deployment, root.version)
    return {(kind.name, each.name): each.fingerprint for kind, each in found if not each.released}


def resources(store: Store, uid: UUID, version: int) -> Iterator[tuple[Kind, Resource]]:
    """What is there of a version beside its Deployment."""
    for kind in RESOURCES:
        for each in store.resources(uid, kind):
            if each.version == version:
                yield kind, each
