"""What a version may ask of the platform here: what it can run, whose storage, which addresses. Pure.

A cluster's own rules bound a namespace; these bound what lies outside of it: an NFS server trusts whoever mounts it,
and whoever has an external IP gets the traffic that is meant for it (CVE-2020-8554). What a version has already it
keeps. Left out: which volumes carry which labels; their owner says by a volume's `claimRef` whose they are.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any

from services.deployer.deployments.domain import VersionSpec
from services.deployer.errors import UnsupportedByPlatform
from services.deployer.platforms import Capabilities
from shared.errors import PermissionDenied, ValidationFailed
from shared.http import Caller

__all__ = ["CONTAINER_FIELDS", "Policy"]

CONTAINER_FIELDS = ("image", "image_pull_secret", "config_files", "volumes", "service")
"""Of a version: what a platform needs containers for."""


@dataclass(frozen=True, kw_only=True)
class Policy:
    """This installation's. `nfs_servers` are `server` or `server:/path`; `own_namespaces`: each group has one."""

    capabilities: Capabilities
    own_namespaces: bool
    nfs_servers: tuple[str, ...]
    external_ips: tuple[IPv4Network | IPv6Network, ...]

    def check(self, version: VersionSpec, *, standing: VersionSpec | None, caller: Caller, pointer: str) -> None:
        """Raises unless `caller` may have `version` in the place of `standing`. `pointer` is its place in the body."""
        self._check_platform(version, pointer=pointer)
        _check_memory(version, pointer=pointer)
        for index, volume in _new_volumes(version, standing):
            self._check_volume(volume, caller=caller, pointer=f"{pointer}/volumes/{index}")
        self._check_addresses(version, standing, pointer=pointer)

    def _check_platform(self, version: VersionSpec, *, pointer: str) -> None:
        if not self.capabilities.containers:
            for field in CONTAINER_FIELDS:
                if version.get(field):
                    message = "needs a platform of containers, and this one runs processes on one machine"
                    raise UnsupportedByPlatform.of(f"{pointer}/{field}", message)
        if not self.capabilities.gpu_fractions and version["resources"]["gpu"] % 1:
            message = f"{version['instance_type']} has a fraction of a GPU, and this platform gives whole ones"
            raise UnsupportedByPlatform.of(f"{pointer}/instance_type", message)

    def _check_volume(self, volume: dict[str, Any], *, caller: Caller, pointer: str) -> None:
        if caller.admin:
            return
        if (nfs := volume.get("nfs")) and not self._is_listed(nfs["server"], nfs["path"]):
            raise PermissionDenied(
                f"{pointer}/nfs: only platform admins may mount what is not in MOORAGE_KUBERNETES_NFS_SERVERS.",
                permission="admin",
            )
        if volume.get("pvc", {}).get("claim") and not self.own_namespaces:
            raise PermissionDenied(
                f"{pointer}/pvc/claim: all groups share one namespace, so only platform admins may mount its claims.",
                permission="admin",
            )

    def _is_listed(self, server: str, path: str) -> bool:
        listed = (entry.partition(":") for entry in self.nfs_servers)
        return any(name == server and f"{path}/".startswith(f"{root.rstrip('/')}/") for name, _, root in listed)

    def _check_addresses(self, version: VersionSpec, standing: VersionSpec | None, *, pointer: str) -> None:
        service, stood = version.get("service"), standing.get("service") if standing else None
        for index, address in enumerate(service["external_ips"] if service else ()):
            known = stood is not None and address in stood["external_ips"]
            if not known and not any(ip_address(address) in network for network in self.external_ips):
                message = f"{address} is not within the networks of MOORAGE_KUBERNETES_EXTERNAL_IPS"
                raise ValidationFailed.of(f"{pointer}/service/external_ips/{index}", message)


def _check_memory(version: VersionSpec, *, pointer: str) -> None:
    most = version["resources"]["memory"]
    held = sum(volume["memory"].get("size", 0) for volume in version.get("volumes", ()) if "memory" in volume)
    if held > most:
        message = f"the folders in memory are {held} bytes, which count into the {most} of {version['instance_type']}"
        raise ValidationFailed.of(f"{pointer}/volumes", message)


def _new_volumes(version: VersionSpec, standing: VersionSpec | None) -> Iterator[tuple[int, dict[str, Any]]]:
    stood = standing.get("volumes", []) if standing else []
    return ((index, volume) for index, volume in enumerate(version.get("volumes", ())) if volume not in stood)
