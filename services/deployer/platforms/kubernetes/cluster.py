"""What the parts of the platform work with: the API server, what is known of the cluster, and the settings."""

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from services.deployer.platforms.kubernetes.api import Api
from services.deployer.platforms.kubernetes.options import Options
from services.deployer.platforms.kubernetes.store import Store


@dataclass(frozen=True, kw_only=True)
class Cluster:
    api: Api
    store: Store
    options: Options
    artifact_url: Callable[[str], str]
    """From a digest to the address that a fresh pod pulls it from."""
    url_seconds: float
    """How long such an address is good."""
    look_again: Callable[[UUID, float], None]
    """Says after so many seconds that the deployment has changed: something is due then."""
