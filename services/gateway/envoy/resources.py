"""Envoy's resources as the xDS server sees them: a type, a name, a version and bytes, bundled by what they belong to.

It knows nothing of what is inside, so the snapshot server, which only passes on what was acknowledged before, needs
none of the many Envoy protos (`translate` does).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b

from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryResponse

__all__ = ["CLUSTER", "ENDPOINTS", "SCOPE", "TYPES", "Bundle", "Key", "Resource", "owner"]

_PREFIX = "type.googleapis.com/envoy.config."
CLUSTER = _PREFIX + "cluster.v3.Cluster"
ENDPOINTS = _PREFIX + "endpoint.v3.ClusterLoadAssignment"
SCOPE = _PREFIX + "route.v3.ScopedRouteConfiguration"
TYPES = (CLUSTER, ENDPOINTS, SCOPE)

Key = tuple[str, str]
"""Type URL and name."""


def owner(name: str) -> str:
    """The bundle that a resource belongs to: every resource of `churn` is called `churn` or `churn/…`."""
    return name.partition("/")[0]


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource. The version is the hash of its content, so that a restarted gateway says the same of the same."""

    type_url: str
    name: str
    version: str
    body: bytes

    @classmethod
    def of(cls, type_url: str, name: str, body: bytes) -> "Resource":
        return cls(type_url, name, blake2b(body, digest_size=12).hexdigest(), body)


@dataclass(frozen=True, slots=True)
class Bundle:
    """All resources of one deployment (or of the platform's own routes): they change together, in a fixed order."""

    version: str
    resources: Mapping[Key, Resource]

    @classmethod
    def of(cls, resources: Iterable[Resource]) -> "Bundle":
        by_key = {(resource.type_url, resource.name): resource for resource in resources}
        digest = blake2b(digest_size=12)
        for key in sorted(by_key):
            digest.update(f"{key[0]} {key[1]} {by_key[key].version}\n".encode())
        return cls(digest.hexdigest(), by_key)

    def to_bytes(self) -> bytes:
        """For the snapshot: the delta response that would add everything."""
        message = DeltaDiscoveryResponse()
        for resource in self.resources.values():
            entry = message.resources.add(name=resource.name, version=resource.version)
            entry.resource.type_url = resource.type_url
            entry.resource.value = resource.body
        data: bytes = message.SerializeToString(deterministic=True)
        return data

    @classmethod
    def from_bytes(cls, data: bytes) -> "Bundle":
        """The versions are made anew, so whoever knows the bundle's version sees whether anything has changed."""
        message = DeltaDiscoveryResponse.FromString(data)
        return cls.of(Resource.of(e.resource.type_url, e.name, e.resource.value) for e in message.resources)
