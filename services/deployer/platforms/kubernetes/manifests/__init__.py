"""From a workload to the objects that make it on Kubernetes. Pure: no I/O, no clock, the same in, the same out.

Every object is a complete body for server-side apply: what is not in it is not ours, and another manager's (an
autoscaler's replicas, a service's addresses) is left alone.
"""

from dataclasses import dataclass

from services.deployer.platforms.kubernetes import names
from services.deployer.platforms.kubernetes.manifests import config, exposure, storage
from services.deployer.platforms.kubernetes.manifests.deployment import deployment
from services.deployer.platforms.kubernetes.manifests.manifest import Manifest, dependent
from services.deployer.platforms.kubernetes.manifests.namespace import namespace
from services.deployer.platforms.kubernetes.options import Options
from services.deployer.platforms.platform import Workload

__all__ = ["Manifest", "Manifests", "build", "field_manager", "namespace"]


@dataclass(frozen=True)
class Manifests:
    """All objects of one version. `root` is the Deployment: with it goes all that it owns."""

    root: Manifest
    volumes: tuple[Manifest, ...] = ()
    """In no namespace, so nothing can own them: to be deleted by their labels."""
    owned: tuple[Manifest, ...] = ()

    def dependents(self, uid: str) -> list[Manifest]:
        """All but the root, in the order in which they are best applied; `uid` is what the API server gave the root."""
        return [*self.volumes, *(dependent(each, of=self.root, uid=uid) for each in self.owned)]

    @property
    def revision(self) -> str:
        """What pods carry in the annotation `names.REVISION` that are as they should be."""
        found: str = self.root["spec"]["template"]["metadata"]["annotations"][names.REVISION]
        return found


def build(workload: Workload, options: Options, *, model_url: str | None, replicas: int | None) -> Manifests:
    """`model_url` is where a fresh pod pulls its model from; `replicas` None leaves their number to an autoscaler."""
    every = [
        config.environment_of(workload, options, model_url=model_url),
        config.pull_secret(workload, options),
        config.files(workload, options),
        *storage.claims(workload, options),
        exposure.service(workload, options),
        exposure.autoscaler(workload, options),
    ]
    return Manifests(
        root=deployment(workload, options, replicas=replicas),
        volumes=tuple(storage.volumes(workload, options)),
        owned=tuple(each for each in every if each is not None),
    )


def field_manager(manifest: Manifest) -> str:
    """As whom to apply it: each owner of a shared claim is one by itself, or would take the others' references away."""
    if storage.shared(manifest):
        return f"{names.MANAGER}-{manifest['metadata']['ownerReferences'][0]['uid']}"
    return names.MANAGER
