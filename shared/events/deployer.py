"""What the deployer publishes. The subject is always the deployment's uid."""

from shared.events.contract import EventData, EventType


class DeploymentData(EventData):
    id: str
    group: str
    generation: int


DEPLOYMENT_CHANGED = EventType("moorage.deployment.changed", "deployer", DeploymentData)
"""An accepted change of a deployment's spec: created, updated, stopped, started, deleted."""

DEPLOYMENT_STATUS = EventType("moorage.deployment.status", "deployer", DeploymentData)
"""What the reconciler found: phase, conditions, the status of versions."""

REPLICAS_CHANGED = EventType("moorage.replicas.changed", "deployer", DeploymentData)
"""The set of replicas that may be sent requests changed."""
