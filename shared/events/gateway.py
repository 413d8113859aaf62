"""What the gateway publishes."""

from shared.events.contract import EventData, EventType


class UserData(EventData):
    user: str


class ClientData(EventData):
    id: str
    client: str


class RouteData(EventData):
    id: str
    generation: int
    endpoints_generation: int
    rejected: bool = False


USER_CREATED = EventType("moorage.user.created", "gateway", UserData)
"""A user was seen for the first time; the subject is the user."""

USER_CHANGED = EventType("moorage.user.changed", "gateway", UserData)
"""A user was changed, disabled or deleted."""

CLIENT_CHANGED = EventType("moorage.client.changed", "gateway", ClientData)
"""A client of a private endpoint was added, rotated or revoked; the subject is the deployment's uid."""

ROUTE_ENFORCED = EventType("moorage.route.enforced", "gateway", RouteData)
"""Every Envoy has acknowledged (or one has refused) a deployment's routes; the subject is the deployment's uid."""
