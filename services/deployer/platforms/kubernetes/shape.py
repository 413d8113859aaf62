"""What has been applied of one version, as of this process: enough to see that nothing has to be done. No I/O.

The API server's answer to what we apply has a fingerprint; as long as the watch shows the same one, the object is as we
have made it. After a restart nothing is known to be so: everything is applied once more when its turn comes, which
changes nothing where nothing differs. Secrets are left out, as nobody lets us read them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from uuid import UUID

from services.deployer.platforms.kubernetes import names
from services.deployer.platforms.kubernetes.kinds import (
    AUTOSCALER,
    CLAIM,
    CONFIG_MAP,
    SERVICE,
    VOLUME,
    Kind,
    Object,
    kind_of,
)
from services.deployer.platforms.kubernetes.objects import Resource, Root
from services.deployer.platforms.kubernetes.store import Store
from services.deployer.platforms.kubernetes.trimming import fingerprint
from services.deployer.platforms.platform import Exposure, Workload

RESOURCES = (CONFIG_MAP, SERVICE, AUTOSCALER, CLAIM, VOLUME)
"""The kinds beside the Deployment that we may read."""


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
    prints: frozenset[tuple[str, str, str]]
    """Kind, name and fingerprint of the others."""

    @classmethod
    def noted(cls, shape: Shape, revision: str, root: Object, others: Iterable[Object]) -> "Applied":
        prints = ((kind_of(each), each) for each in others)
        return cls(
            shape=shape,
            revision=revision,
            root=(root["metadata"]["uid"], fingerprint(root)),
            prints=frozenset(
                (kind.name, each["metadata"]["name"], fingerprint(each))
                for kind, each in prints
                if kind in RESOURCES and names.UID in each["metadata"]["labels"]  # a shared claim is nobody's
            ),
        )

    def stands(self, root: Root, store: Store) -> bool:
        """Whether all of it is there as it was made."""
        if self.root != (root.uid, root.fingerprint):
            return False
        if not self.prints:
            return True
        return self.prints <= {
            (kind.name, each.name, each.fingerprint) for kind, each in resources(store, root.deployment, root.version)
        }

    def superseded(self, root: Root, store: Store) -> list[tuple[Kind, Resource]]:
        """What is there of the version and does not belong to this shape."""
        kept = {(kind, name) for kind, name, _ in self.prints}
        return [
            (kind, each)
            for kind, each in resources(store, root.deployment, root.version)
            if (kind.name, each.name) not in kept
        ]


def resources(store: Store, uid: UUID, version: int) -> Iterator[tuple[Kind, Resource]]:
    """What is there of a version beside its Deployment."""
    for kind in RESOURCES:
        for each in store.resources(uid, kind):
            if each.version == version:
                yield kind, each
