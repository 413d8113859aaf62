"""What the registry publishes."""

from shared.events.contract import EventData, EventType


class GroupData(EventData):
    group: str


class InstanceTypeData(EventData):
    instance_type: str


class ModelVersionData(EventData):
    group: str
    model: str
    number: int


GROUP_CHANGED = EventType("moorage.group.changed", "registry", GroupData)
"""A group, its members, quota or switch changed, or it was deleted; the subject is the group."""

INSTANCE_TYPE_CHANGED = EventType("moorage.instance_type.changed", "registry", InstanceTypeData)
"""An instance type was made, changed or deleted; the subject is its id."""

MODEL_VERSION_REGISTERED = EventType("moorage.model_version.registered", "registry", ModelVersionData)
"""A model has a new version; the subject is `<group>/<model>`."""

MODEL_CHANGED = EventType("moorage.model.changed", "registry", ModelVersionData)
"""A model's description, tags or aliases changed, or it was deleted; `number` is its latest version."""
