"""The intermediate form between the gateway's rows and Envoy's configuration: what routes of a deployment *mean*.

The reconciler builds it from rows; `translate` turns it into Envoy's resources. Nothing here knows of either. Building
one checks what Envoy could not be told, so that a mistake is found here, with a name, and not as a refusal by Envoy.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Access", "DeploymentRoutes", "Endpoint", "EndpointClient", "InvalidRoutes", "Overlap", "beginning_of"]

Access = Literal["private", "public"]

_DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_CLIENT = re.compile(r"[A-Za-z0-9.-]{1,63}")
_SHA1_BYTES = 20


def beginning_of(client: str, mark: str = "") -> str:
    """What every token of this client begins with."""
    return f"moor_{client}_{mark}"


class InvalidRoutes(ValueError):
    """These routes cannot be: says which field, and why."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a ready replica listens. `host` is an IP address: Envoy looks no names up here."""

    replica: str
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Overlap:
    """The token before, which is let in too: its digest, and the mark that the new token's random part begins with."""

    sha1: str
    mark: str


@dataclass(frozen=True, slots=True)
class EndpointClient:
    """Who may call. `sha1` is the base64 of the token's SHA-1 digest, as after `{SHA}` in an htpasswd file."""

    name: str
    sha1: str
    overlap: Overlap | None = None

    def __post_init__(self) -> None:
        # A newline here would add a user to Envoy's list; an underscore would end the name within a Bearer token.
        if not _CLIENT.fullmatch(self.name):
            raise InvalidRoutes(f"client name {self.name!r}: 1 to 63 of letters, digits, '.' and '-'")
        for sha1 in (self.sha1, *((self.overlap.sha1,) if self.overlap else ())):
            try:
                digest = base64.b64decode(sha1, validate=True)
            except (binascii.Error, ValueError):
                digest = b""
            if len(digest) != _SHA1_BYTES:
                raise InvalidRoutes(f"client {self.name!r}: not the base64 of a SHA-1 digest")
        if self.overlap and len(self.beginning) % 3:
            raise InvalidRoutes(f"client {self.name!r}: its mark does not end where a letter of base64 ends")

    @property
    def beginning(self) -> str:
        """Of what the new token is sent as, `<client>:<token>`: what is known of it without knowing the token."""
        return f"{self.name}:{beginning_of(self.name, self.overlap.mark if self.overlap else '')}"

    @classmethod
    def of_token(cls, name: str, token: str) -> "EndpointClient":
        """For whoever has just made the token. Its form is `moor_<client>_<random>`, of 160 random bits or more."""
        digest = hashlib.sha1(token.encode(), usedforsecurity=False).digest()
        return cls(name=name, sha1=base64.b64encode(digest).decode())


@dataclass(frozen=True, slots=True)
class DeploymentRoutes:
    """What the data plane has to know of one deployment.

    `versions` holds the ready replicas of each version that has a place, also of those without weight or replica.
    `weights` sum to 100, or are empty: then no version receives what is sent to the deployment's own address.
    """

    id: str
    generation: int
    access: Access = "private"
    clients: tuple[EndpointClient, ...] = ()
    versions: Mapping[int, tuple[Endpoint, ...]] = field(default_factory=dict)
    weights: Mapping[int, int] = field(default_factory=dict)
    stopped: bool = False

    def __post_init__(self) -> None:
        if not _DNS_LABEL.fullmatch(self.id):
            raise InvalidRoutes(f"deployment id {self.id!r} is not a DNS label")
        if len({client.name for client in self.clients}) != len(self.clients):
            raise InvalidRoutes("two clients have the same name")
        if unknown := sorted(set(self.weights) - set(self.versions)):
            raise InvalidRoutes(f"weights name versions that are not there: {unknown}")
        if any(weight < 0 for weight in self.weights.values()):
            raise InvalidRoutes("a weight is negative")
        if self.weights and sum(self.weights.values()) != 100:
            raise InvalidRoutes(f"weights sum to {sum(self.weights.values())}, not to 100")

    @property
    def replicas(self) -> frozenset[str]:
        """The replicas that receive requests: the platform must not end one of these."""
        return frozenset(endpoint.replica for endpoints in self.versions.values() for endpoint in endpoints)
