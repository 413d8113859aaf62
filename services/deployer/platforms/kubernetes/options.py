"""The Kubernetes platform's settings: what the cluster is like, and what replicas may ask of it. No I/O."""

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address

PORT = 8080
"""Every replica listens here: it has an address of its own."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Built once from the deployer's settings."""

    model_server_image: str
    """Runs what names no image of its own, and pulls models for all."""
    namespace: str = "moorage-{group}"
    """Where a group's objects are. With `{group}` we make the namespaces; without, there is one and it exists."""
    installation: str = "moorage"
    """Tells our objects from those of another Moorage on the same cluster."""
    area: str = "kubernetes"
    pull_secrets: tuple[str, ...] = ()
    """Of images, in the namespace already; a deployment's own come on top."""
    user: int | None = 10001
    """Replicas run as this user, whatever their image says; None leaves it to the image, as long as it is not root."""
    drain_seconds: int = 5
    """How long a pod that others delete (an eviction) still serves, until the data plane has let go of it."""
    settle_seconds: float = 1.0
    """How long a replica drains at least, for a route that was on its way when it began to."""
    patience_seconds: float = 30.0
    """For how long a pod may find no node, or its volumes no place, before it has failed: more may be on the way."""
    gpu_resource: str = "nvidia.com/gpu"
    gpu_model_label: str = "nvidia.com/gpu.product"
    """The label that nodes carry their cards' model in."""
    gpu_fraction_resource: str | None = None
    """What a device plugin that shares cards calls its units; without one there are only whole cards."""
    gpu_fraction_units: int = 100
    """How many of them make a card."""
    external_ips: tuple[IPv4Network | IPv6Network, ...] = ()
    """Addresses that deployments may ask for. None by default: whoever may take any could take another's traffic."""

    @property
    def own_namespaces(self) -> bool:
        """Whether we make a namespace for each group."""
        return "{group}" in self.namespace

    def namespace_of(self, group: str) -> str:
        return self.namespace.replace("{group}", group)

    def permits(self, address: str) -> bool:
        """Whether a deployment may have this external IP."""
        return any(ip_address(address) in network for network in self.external_ips)
